#include "pipeline/logging.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "ingest/encoder.h"

namespace freshet {
namespace {

using spdlog::details::log_msg;
using Time = spdlog::log_clock::time_point;

constexpr size_t kKindBytes = 200;

// What lines of one kind have in common.
std::string KindOf(const log_msg& message) {
  std::string kind(1, static_cast<char>('0' + message.level));
  bool quoted = false;
  for (const char c : std::string_view(message.payload.data(), message.payload.size())) {
    if (kind.size() == kKindBytes) break;
    if (c == '"') quoted = !quoted;
    const bool digit = c >= '0' && c <= '9';
    if (quoted || (digit && kind.size() > 1 && kind.back() == '#')) continue;
    kind += digit ? '#' : c;
  }
  return kind;
}

// spdlog's dup_filter_sink drops a line only where it is the one before, letter by letter, and tells how many it
// dropped with the next line, if one comes.
class LimitingSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LimitingSink(std::shared_ptr<spdlog::sinks::sink> out) : out_(std::move(out)) {}
  ~LimitingSink() override {
    for (auto& [_, lines] : kinds_) Tell(lines);
    out_->flush();
  }

 protected:
  void sink_it_(const log_msg& message) override {
    EndWindows(message.time);
    if (message.level < spdlog::level::warn || message.level >= spdlog::level::critical) return out_->log(message);
    std::string kind = KindOf(message);
    auto found = kinds_.find(kind);
    if (found == kinds_.end()) {
      if (kinds_.size() == kKinds) return out_->log(message);
      found = kinds_.emplace(std::move(kind), Lines{.began = message.time}).first;
    }
    Lines& lines = found->second;
    if (lines.passed < kBurst) {
      ++lines.passed;
      return out_->log(message);
    }
    ++lines.held;
    lines.level = message.level;
    lines.logger.assign(message.logger_name.data(), message.logger_name.size());
    lines.last.assign(message.payload.data(), message.payload.size());
  }

  void flush_() override {
    EndWindows(spdlog::log_clock::now());
    out_->flush();
  }

  void set_pattern_(const std::string& pattern) override { out_->set_pattern(pattern); }
  void set_formatter_(std::unique_ptr<spdlog::formatter> formatter) override {
    out_->set_formatter(std::move(formatter));
  }

 private:
  struct Lines {
    Time began;
    int passed = 0;
    int64_t held = 0;
    spdlog::level::level_enum level = spdlog::level::warn;
    std::string logger = {};
    std::string last = {};
  };

  void EndWindows(Time now) {
    if (now < next_end_ && now >= last_look_) return;
    last_look_ = now;
    next_end_ = now + kBurstWindow;
    for (auto kind = kinds_.begin(); kind != kinds_.end();) {
      const Time end = kind->second.began + kBurstWindow;
      if (now < end && now >= kind->second.began) {  // not before: the clock may be set back
        next_end_ = std::min(next_end_, end);
        ++kind;
        continue;
      }
      Tell(kind->second);
      kind = kinds_.erase(kind);
    }
  }

  void Tell(Lines& lines) {
    if (lines.held == 0) return;
    const std::string text = "held back " + std::to_string(lines.held) + " more of this kind within " +
                             std::to_string(kBurstWindow.count()) + " s; the last: " + lines.last;
    out_->log(log_msg(lines.logger, lines.level, text));
    lines.held = 0;
  }

  const std::shared_ptr<spdlog::sinks::sink> out_;
  std::map<std::string, Lines> kinds_;
  Time next_end_;   // of a window, or earlier; new ones end later
  Time last_look_;  // at what time the above was found
};

// %*: the message as the inside of a JSON string.
class EscapedMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const log_msg& message, const std::tm&, spdlog::memory_buf_t& destination) override {
    std::string escaped;
    AppendJsonEscaped({message.payload.data(), message.payload.size()}, escaped);
    destination.append(escaped.data(), escaped.data() + escaped.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<EscapedMessage>(); }
};

}  // namespace

std::shared_ptr<spdlog::logger> MakeLogger(const std::string& format, std::shared_ptr<spdlog::sinks::sink> out) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<EscapedMessage>('*').set_pattern(
      format == "json" ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})"
                       : "%Y-%m-%dT%H:%M:%S.%e %l %v");
  auto logger = std::make_shared<spdlog::logger>("freshet", std::make_shared<LimitingSink>(std::move(out)));
  logger->set_formatter(std::move(formatter));
  return logger;
}

}  // namespace freshet
