#include "pipeline/progress.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/thousands.h"

namespace freshet {
namespace {

constexpr std::chrono::milliseconds kTerminalInterval{250};
constexpr std::chrono::seconds kLogInterval{10};

double Seconds(std::chrono::steady_clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

std::string FormatTimeLeft(double seconds) {
  const auto whole = static_cast<long long>(std::llround(seconds));
  std::array<char, 64> text;
  if (whole >= 24 * 3600) {
    std::snprintf(text.data(), text.size(), "%lld d %lld h", whole / 86400, whole / 3600 % 24);
  } else if (whole >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld", whole / 60, whole % 60);
  }
  return text.data();
}

std::string FormatProgress(const ProgressReport& report) {
  std::string line = report.what + (report.part.empty() ? "" : ", " + report.part) + ": " + WithThousands(report.done) +
                     " " + report.unit;
  if (report.share >= 0) line += ", " + std::to_string(static_cast<int>(report.share * 100)) + "%";
  line += ", " + WithThousands(std::llround(report.rate)) + "/s";
  if (report.left_s >= 0) line += ", " + FormatTimeLeft(report.left_s) + " left";
  return line;
}

std::string FormatDone(const ProgressReport& report) {
  std::array<char, 32> seconds;
  std::snprintf(seconds.data(), seconds.size(), "%.1f", report.seconds);
  return report.what + ": " + WithThousands(report.done) + " " + report.unit + " in " + seconds.data() + " s, " +
         WithThousands(std::llround(report.rate)) + "/s";
}

Progress::Progress(std::string what, std::string unit)
    : terminal_(isatty(STDERR_FILENO) == 1),
      began_(Clock::now()),
      next_(began_ + (terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kLogInterval))),
      shown_at_(began_) {
  report_.what = std::move(what);
  report_.unit = std::move(unit);
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::Begin(std::string part, std::string unit) {
  report_.part = std::move(part);
  report_.unit = std::move(unit);
  shown_done_ = -1;
  first_share_ = -1;
}

void Progress::Update(int64_t done, double share) {
  report_.done = done;
  report_.share = share;
  const auto now = Clock::now();
  if (first_share_ < 0) {
    first_share_ = share;
    first_share_at_ = now;
  }
  if (shown_done_ < 0) {
    shown_done_ = done;
    shown_at_ = now;
    return;
  }
  if (now < next_) return;
  next_ = now + (terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kLogInterval));

  report_.seconds = Seconds(now - began_);
  report_.rate = static_cast<double>(done - shown_done_) / Seconds(now - shown_at_);
  const double gained = share - first_share_;
  report_.left_s = share >= 0 && gained > 0 ? Seconds(now - first_share_at_) * (1 - share) / gained : -1;
  shown_at_ = now;
  shown_done_ = done;
  if (terminal_) {
    std::fprintf(stderr, "\r%s\x1b[K", FormatProgress(report_).c_str());
    std::fflush(stderr);
    line_open_ = true;
  } else {
    spdlog::info("{}", FormatProgress(report_));
  }
}

void Progress::Finish() {
  report_.seconds = Seconds(Clock::now() - began_);
  report_.rate = report_.seconds > 0 ? static_cast<double>(report_.done) / report_.seconds : 0;
  if (terminal_) {
    std::fprintf(stderr, "\r%s\x1b[K\n", FormatDone(report_).c_str());
    line_open_ = false;
  } else {
    spdlog::info("{}", FormatDone(report_));
  }
}

}  // namespace freshet
