#include "bench/bench_log.h"

#include <fstream>

#include "pipeline/clickstream.h"
#include "pipeline/generate.h"

namespace freshet::bench {
namespace {

Error CannotWrite(const std::filesystem::path& path) { return Error(ErrorCode::kIo, path.string() + ": cannot write"); }

Status CopyLines(const std::filesystem::path& from, int64_t lines, const std::filesystem::path& to) {
  std::ifstream in(from);
  if (!in) return Error(ErrorCode::kIo, from.string() + ": cannot read");
  std::ofstream out(to);
  std::string line;
  for (int64_t n = 0; (lines == 0 || n < lines) && std::getline(in, line); ++n) out << line << '\n';
  out.close();
  return out ? Status() : CannotWrite(to);
}

// The events of a log, user by user, for ever.
class Events {
 public:
  explicit Events(const EventLog& log) : log_(log) {}

  const ModelToken& Next() {
    const std::vector<ModelToken>& tokens = log_.users[user_].tokens;
    const ModelToken& token = tokens[event_++];
    if (event_ == tokens.size()) {
      event_ = 0;
      user_ = (user_ + 1) % log_.users.size();
    }
    return token;
  }

 private:
  const EventLog& log_;
  size_t user_ = 0;
  size_t event_ = 0;
};

void WriteEvent(const Vocabulary& vocabulary, const ModelToken& token, uint64_t user, int64_t time_ms,
                std::ofstream& out) {
  out << R"({"user_id":"c)" << user << R"(","item_id":")" << vocabulary.item_ids()[Raw(token.item)]
      << R"(","event_type":")" << vocabulary.type_names()[Raw(token.type)] << R"(","timestamp":)" << time_ms << "}\n";
}

}  // namespace

Status WriteLog(const LogOptions& options, const std::filesystem::path& path) {
  if (!options.input.empty()) return CopyLines(options.input, options.events, path);
  GenerateOptions generate;
  generate.users = static_cast<uint64_t>(options.users);
  generate.items = static_cast<uint64_t>(options.items);
  generate.events = static_cast<uint64_t>(options.events);
  generate.seed = options.seed;
  generate.output = path;
  return Generate(generate, [](uint64_t) { return true; });
}

Status WriteUniformLogs(const EventLog& log, const UniformOptions& options, const std::filesystem::path& fill,
                        const std::filesystem::path& draw) {
  constexpr int64_t kStepMs = 100;
  const auto users = static_cast<uint64_t>(options.users);
  Events events(log);
  SplitMix random(options.seed);
  int64_t time_ms = ClickPeriod().start_ms;
  std::ofstream filling(fill), drawing(draw);
  for (int64_t round = 0; round < options.rounds; ++round) {
    for (uint64_t user = 0; user < users; ++user) {
      WriteEvent(log.vocabulary, events.Next(), user, time_ms += kStepMs, filling);
    }
  }
  for (int64_t n = 0; n < options.events; ++n) {
    WriteEvent(log.vocabulary, events.Next(), random.Below(users), time_ms += kStepMs, drawing);
  }
  filling.close();
  drawing.close();
  if (!filling) return CannotWrite(fill);
  return drawing ? Status() : CannotWrite(draw);
}

Result<EventLog> ReadLogs(const std::vector<std::filesystem::path>& paths, const Vocabulary* vocabulary) {
  return ReadEventLog(Config(), paths, vocabulary);
}

Status WriteModel(const Shape& shape, const Vocabulary& vocabulary, uint64_t seed,
                  const std::filesystem::path& directory) {
  ModelConfig config;
  config.items = static_cast<int>(vocabulary.item_ids().size());
  config.event_types = static_cast<int>(vocabulary.type_names().size());
  config.dim = shape.dim;
  config.layers = shape.layers;
  config.heads = shape.heads;
  config.window = shape.window;
  config.temperature = .05;
  Model model = *RandomModel(config, seed);
  model.vocabulary = vocabulary;
  return WriteModelDirectory(model, directory);
}

}  // namespace freshet::bench
