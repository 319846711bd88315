// What an event costs from a line of a log file to a recommendation in a file, by stage, through the real pipeline on
// one worker; beside a floor for each stage. bench/README.md says how to read it.
#include <hwy/highway.h>
#include <librdkafka/rdkafka.h>
#include <rocksdb/version.h>
#include <simdjson.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>

#include "bench/bench_log.h"
#include "bench/floors.h"
#include "bench/replay_run.h"
#include "bench/result_check.h"
#include "inference/kernels.h"

namespace freshet::bench {
namespace {

namespace fs = std::filesystem;

struct Flags {
  LogOptions log;
  std::vector<Shape> shapes;
  int repetitions = 5;
  int top_k = 100;
  UniformOptions uniform;
  size_t uniform_hot_mib = 32;
  std::vector<std::string> cases = {"every", "none", "uniform"};
  fs::path directory;
  fs::path prepare;
};

// One thing to measure.
struct Case {
  std::string what;
  std::vector<fs::path> inputs;  // the last one is measured
  fs::path filled;               // state directory that has the others behind it; empty: there are none
  Emit emit = Emit::kEvery;
  size_t hot_cache_bytes = size_t{1} << 30;
};

struct Measured {
  double median = 0;
  double least = 0;
  double most = 0;
};

Measured Summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

// The value behind the first "key" of a file of "key: value" lines.
std::string Line(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t value = line.find(": ");
    return value == line.npos ? line : line.substr(value + 2);
  }
  return "unknown";
}

void PrintMachine() {
  const dnnl_version_t* const dnnl = dnnl_version();
  std::string load;
  std::ifstream("/proc/loadavg") >> load;
  std::printf("CPU: %s; kernels: %s; load: %s\n", Line("/proc/cpuinfo", "model name").c_str(), KernelTarget(),
              load.c_str());
  std::printf("oneDNN %d.%d.%d, RocksDB %s, librdkafka %s, simdjson %d.%d.%d (%s), Highway %d.%d.%d\n", dnnl->major,
              dnnl->minor, dnnl->patch, rocksdb::GetRocksVersionAsString().c_str(), rd_kafka_version_str(),
              simdjson::SIMDJSON_VERSION_MAJOR, simdjson::SIMDJSON_VERSION_MINOR, simdjson::SIMDJSON_VERSION_REVISION,
              simdjson::get_active_implementation()->name().c_str(), HWY_MAJOR, HWY_MINOR, HWY_PATCH);
}

Result<std::string> ReadText(const fs::path& path, size_t limit) {
  std::ifstream in(path, std::ios::binary);
  std::string text(limit, '\0');
  in.read(text.data(), static_cast<std::streamsize>(limit));
  text.resize(static_cast<size_t>(in.gcount()));
  text.resize(text.rfind('\n') + 1);
  if (text.empty()) return Error(ErrorCode::kIo, path.string() + ": no whole line");
  return text;
}

Result<Sample> MakeSample(const fs::path& log, const Model& model, size_t record_bytes) {
  Sample sample;
  ASSIGN_OR_RETURN(sample.text, ReadText(log, size_t{2} << 20));
  sample.text_bytes = sample.text.size();
  for (size_t begin = 0; begin < sample.text_bytes; begin = sample.text.find('\n', begin) + 1) {
    constexpr std::string_view kUser = "\"user_id\"";
    const size_t key = sample.text.find(kUser, begin);
    const size_t value = sample.text.find('"', key + kUser.size()) + 1;
    sample.user_ids.push_back(sample.text.substr(value, sample.text.find('"', value) - value));
  }
  sample.text.append(simdjson::SIMDJSON_PADDING, ' ');
  for (const std::string& id : model.vocabulary.item_ids()) {
    sample.item_heads.push_back(",{\"item_id\":\"" + id + "\",\"score\":");
  }
  sample.record_bytes = record_bytes;
  return sample;
}

// Rows in an event's window, on average over the last `events` events of a log.
double MeanSlots(const EventLog& log, int window, int64_t first_of_user) {
  double slots = 0, events = 0;
  for (const UserSequence& user : log.users) {
    for (auto n = first_of_user; n < std::ssize(user.tokens); ++n) {
      slots += static_cast<double>(std::min<int64_t>(n + 1, window));
      ++events;
    }
  }
  return events == 0 ? 0 : slots / events;
}

class Bench {
 public:
  Bench(const Flags& flags, const fs::path& directory) : flags_(flags), directory_(directory) {}

  Status Run() {
    RETURN_IF_ERROR(WriteLog(flags_.log, Log()));
    ASSIGN_OR_RETURN(log_, ReadLogs({Log()}, nullptr));
    for (const Shape& shape : flags_.shapes) {
      RETURN_IF_ERROR(WriteModel(shape, log_->vocabulary, flags_.log.seed, Path("model")));
      ASSIGN_OR_RETURN(const ServingModel serving, ServingModel::Load(Path("model")));
      for (const std::string& name : flags_.cases) {
        ASSIGN_OR_RETURN(const Case one, MakeCase(name, serving));
        RETURN_IF_ERROR(RunCase(one, serving));
      }
    }
    return {};
  }

 private:
  fs::path Path(const char* name) const { return directory_ / name; }
  fs::path Log() const { return Path("events.jsonl"); }

  Result<Case> MakeCase(const std::string& name, const ServingModel& serving) {
    if (name == "every") return Case{"the log, a recommendation for every event", {Log()}, {}, Emit::kEvery};
    if (name == "none") return Case{"the log, state only", {Log()}, {}, Emit::kNone};
    UniformOptions uniform = flags_.uniform;
    uniform.rounds = static_cast<int64_t>(serving.model->config.exact_history());
    RETURN_IF_ERROR(WriteUniformLogs(*log_, uniform, Path("fill.jsonl"), Path("draw.jsonl")));
    ReplayOptions fill;
    fill.inputs = {Path("fill.jsonl")};
    fill.state_directory = Path("filled");
    fill.emit = Emit::kNone;
    fs::remove_all(fill.state_directory);  // of the shape before
    ASSIGN_OR_RETURN(const ReplayCost ignored, RunReplay(fill, serving));
    if (ignored.counts.events != uniform.rounds * uniform.users) {
      return Error(ErrorCode::kInternal, "the state directory is not filled");
    }
    return Case{"users drawn evenly, few of them in the hot cache",
                {Path("fill.jsonl"), Path("draw.jsonl")},
                Path("filled"),
                Emit::kEvery,
                flags_.uniform_hot_mib << 20};
  }

  Status RunCase(const Case& one, const ServingModel& serving) {
    const Model& model = *serving.model;
    ASSIGN_OR_RETURN(const EventLog log, ReadLogs(one.inputs, &model.vocabulary));
    std::vector<ReplayCost> costs;
    std::vector<StageSeconds> floors;
    for (int n = 0; n < flags_.repetitions; ++n) {
      ASSIGN_OR_RETURN(const ReplayCost cost, RunOnce(one, serving, log));
      ASSIGN_OR_RETURN(const StageSeconds floor, Floors(one, model, log, cost));
      costs.push_back(cost);
      floors.push_back(floor);
    }
    Print(one, model, costs, floors);
    return {};
  }

  Result<ReplayCost> RunOnce(const Case& one, const ServingModel& serving, const EventLog& log) {
    ReplayOptions options;
    options.inputs = one.inputs;
    options.state_directory = Path("state");
    if (one.emit != Emit::kNone) options.output = Path("recommendations.jsonl");
    options.emit = one.emit;
    options.top_k = flags_.top_k;
    options.hot_cache_bytes = one.hot_cache_bytes;
    fs::remove_all(options.state_directory);
    if (!one.filled.empty()) fs::copy(one.filled, options.state_directory, fs::copy_options::recursive);
    ASSIGN_OR_RETURN(const ReplayCost cost, RunReplay(options, serving));
    RETURN_IF_ERROR(CheckRun(one, options, *serving.model, log, cost));
    fs::remove(options.output);
    return cost;
  }

  Status CheckRun(const Case& one, const ReplayOptions& options, const Model& model, const EventLog& log,
                  const ReplayCost& cost) const {
    const int64_t events = one.filled.empty() ? log.events : flags_.uniform.events;
    if (cost.counts.events != events || cost.counts.dead_letters != 0 || cost.counts.repeats != 0) {
      return Error(ErrorCode::kInternal, "wrong result: " + std::to_string(cost.counts.events) + " events, " +
                                             std::to_string(cost.counts.dead_letters) + " dead letters, " +
                                             std::to_string(cost.counts.repeats) + " repeats; expected " +
                                             std::to_string(events) + " events");
    }
    if (one.emit == Emit::kNone) return {};
    return CheckOutput(options.output, log, model,
                       {.records = events, .from_first = one.filled.empty(), .top_k = options.top_k});
  }

  Result<StageSeconds> Floors(const Case& one, const Model& model, const EventLog& log, const ReplayCost& cost) {
    const bool answers = one.emit == Emit::kEvery;
    const auto events = static_cast<double>(cost.counts.events);
    ASSIGN_OR_RETURN(
        const Sample sample,
        MakeSample(one.inputs.back(), model, static_cast<size_t>(static_cast<double>(cost.output_bytes) / events)));
    StageSeconds floor{};
    const auto at = [&](Stage stage) -> double& { return floor[static_cast<size_t>(stage)]; };
    ASSIGN_OR_RETURN(at(Stage::kPoll), PollFloor(one.inputs.back(), cost.counts.events));
    ASSIGN_OR_RETURN(at(Stage::kDecode), DecodeFloor(sample));
    at(Stage::kLoad) = LoadFloor(sample, log.users.size());
    ASSIGN_OR_RETURN(at(Stage::kCommit), CommitFloor(sample, directory_));
    if (!answers) return floor;
    ASSIGN_OR_RETURN(const double peak, PeakFlops());
    peaks_.push_back(peak);
    const int64_t first = one.filled.empty() ? 0 : static_cast<int64_t>(model.config.exact_history());
    at(Stage::kAttention) = AttentionFlop(model.config, MeanSlots(log, model.config.window, first)) / peak;
    at(Stage::kRank) = RankFlop(model.config) / peak;
    at(Stage::kEncode) = EncodeFloor(sample, static_cast<size_t>(flags_.top_k));
    at(Stage::kPublish) = PublishFloor(sample);
    return floor;
  }

  void Print(const Case& one, const Model& model, const std::vector<ReplayCost>& costs,
             const std::vector<StageSeconds>& floors) {
    const ReplayCost& last = costs.back();
    const auto events = static_cast<double>(last.counts.events);
    std::printf("\nL%d d%d H%d W%d, %d items, top %d: %s\n", model.config.layers, model.config.dim, model.config.heads,
                model.config.window, model.config.items - 1, flags_.top_k, one.what.c_str());
    std::printf("%-10s %9s  %-17s %8s %7s\n", "stage", "us/event", "(least-most)", "floor", "times");
    const auto print = [](const char* name, const Measured& measured, double floor) {
      char spread[32];
      std::snprintf(spread, sizeof(spread), "(%.2f-%.2f)", measured.least, measured.most);
      std::printf("%-10s %9.2f  %-17s", name, measured.median, spread);
      if (floor > 0) std::printf(" %8.2f %7.1f", floor, measured.median / floor);
      std::printf("\n");
    };
    const auto over = [&](auto value) {
      std::vector<double> values;
      for (const ReplayCost& cost : costs) values.push_back(value(cost) * 1e6 / events);
      return Summarise(std::move(values));
    };
    double all_floors = 0;
    for (size_t stage = 0; stage < kStageNames.size(); ++stage) {
      std::vector<double> floor;
      for (const StageSeconds& each : floors) floor.push_back(each[stage] * 1e6);
      const double least = Summarise(std::move(floor)).median;
      all_floors += least;
      print(std::string(kStageNames[stage]).c_str(), over([&](const ReplayCost& cost) { return cost.stages[stage]; }),
            least);
    }
    print("worker", over([](const ReplayCost& cost) { return cost.worker_seconds; }), all_floors);
    print("process", over([](const ReplayCost& cost) { return cost.process_seconds; }), all_floors);
    std::printf(
        "%.0f events, %.1f MB out, %.1f %% of look-ups in the hot cache; %.0f events/s by the clock", events,
        static_cast<double>(last.output_bytes) / 1e6,
        100.0 * static_cast<double>(last.hits) / static_cast<double>(std::max<int64_t>(1, last.hits + last.misses)),
        1e6 / over([](const ReplayCost& cost) { return cost.wall_seconds; }).median);
    if (!peaks_.empty()) std::printf("; oneDNN's best %.0f GFLOP/s", Summarise(std::move(peaks_)).median / 1e9);
    std::printf("\n");
    std::fflush(stdout);
    peaks_.clear();
  }

  const Flags& flags_;
  const fs::path directory_;
  std::optional<EventLog> log_;
  std::vector<double> peaks_;  // of the case at hand, FLOP/s
};

// A log and a model that fits it, for other programs to use.
Status Prepare(const Flags& flags) {
  fs::create_directories(flags.prepare);
  const fs::path path = flags.prepare / "events.jsonl";
  RETURN_IF_ERROR(WriteLog(flags.log, path));
  ASSIGN_OR_RETURN(const EventLog log, ReadLogs({path}, nullptr));
  return WriteModel(flags.shapes.front(), log.vocabulary, flags.log.seed, flags.prepare / "model");
}

Status Main(const Flags& flags) {
  if (!flags.prepare.empty()) return Prepare(flags);
  PrintMachine();
  std::string pattern = (flags.directory / "freshet-end-to-end-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return Error(ErrorCode::kIo, pattern + ": cannot make this directory");
  const Status status = Bench(flags, pattern).Run();
  std::error_code ignored;
  fs::remove_all(pattern, ignored);
  return status;
}

}  // namespace
}  // namespace freshet::bench

int main(int argc, char** argv) {
  using namespace freshet::bench;
  Flags flags;
  flags.directory = std::filesystem::temp_directory_path();
  std::vector<std::string> shapes = {"4,64,2,50", "2,64,2,200"};
  CLI::App app("What an event costs end to end, by stage, beside the floor of each");
  app.add_option("--input", flags.log.input, "A log as JSON Lines in the default mapping; default: a generated one");
  app.add_option("--events", flags.log.events, "Events generated, or taken from the input; 0: all of the input");
  app.add_option("--users", flags.log.users, "Users generated");
  app.add_option("--items", flags.log.items, "Items generated");
  app.add_option("--seed", flags.log.seed, "Of the generated log and the random weights");
  app.add_option("--shape", shapes, "layers,dim,heads,window; may be repeated");
  app.add_option("--case", flags.cases,
                 "every: a recommendation for each event of the log; none: state only; "
                 "uniform: users drawn evenly, most of them not in the hot cache")
      ->check(CLI::IsMember({"every", "none", "uniform"}));
  app.add_option("--top-k", flags.top_k, "Items in a recommendation");
  app.add_option("--repetitions", flags.repetitions, "Runs of each case")->check(CLI::PositiveNumber);
  app.add_option("--uniform-users", flags.uniform.users, "Users of the case uniform");
  app.add_option("--uniform-events", flags.uniform.events, "Events of the case uniform");
  app.add_option("--uniform-hot-mib", flags.uniform_hot_mib, "Hot cache of the case uniform, MiB");
  app.add_option("--directory", flags.directory, "Where logs, state and output go while it runs");
  app.add_option("--prepare", flags.prepare, "Only write a log and a model of the first shape to this directory");
  CLI11_PARSE(app, argc, argv);
  for (const std::string& text : shapes) {
    Shape shape;
    if (std::sscanf(text.c_str(), "%d,%d,%d,%d", &shape.layers, &shape.dim, &shape.heads, &shape.window) != 4) {
      std::fprintf(stderr, "--shape: \"%s\": expected layers,dim,heads,window\n", text.c_str());
      return 2;
    }
    flags.shapes.push_back(shape);
  }
  const freshet::Status status = Main(flags);
  if (status.ok()) return 0;
  std::fprintf(stderr, "freshet_end_to_end: %s\n", status.error().message().c_str());
  return 1;
}
