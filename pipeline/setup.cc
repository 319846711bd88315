#include "pipeline/setup.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "core/thousands.h"
#include "core/trace_context.h"
#include "pipeline/logging.h"
#include "state/snapshot.h"

extern char** environ;

namespace freshet {
namespace {

namespace fs = std::filesystem;

using std::chrono::steady_clock;

constexpr char kSourceFact[] = "source";

std::atomic<bool> stop_requested{false};
std::atomic<steady_clock::duration> stop_requested_at{};  // since the epoch of that clock

// What is on its way to the brokers when asked to stop has so long to arrive: a process is to end within 5 s.
constexpr auto kDrainFor = std::chrono::milliseconds(2500);

void RequestStop(int signal) {
  if (stop_requested) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  stop_requested_at = steady_clock::now().time_since_epoch();  // before the flag, which KeepWaiting() reads first
  stop_requested = true;
}

bool KeepWaiting() {
  return !stop_requested || steady_clock::now().time_since_epoch() < stop_requested_at.load() + kDrainFor;
}

sigset_t Hangup() {
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  return hangup;
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

// The default model is where a checkout has it, below the working directory; an installed program brings it along.
void FindDefaultModel(Config& config) {
  std::error_code error;
  if (config.model.directory != Config().model.directory || fs::exists(config.model.directory, error)) return;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path installed = program.parent_path() / "../share/freshet" / config.model.directory;
  if (fs::is_directory(installed, error)) config.model.directory = installed.lexically_normal().string();
}

}  // namespace

void SetUpLogging(const Config& config) {
  auto logger = MakeLogger(config.log.format, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::from_str(config.log.level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void FlushLogRegularly() { spdlog::flush_every(std::chrono::seconds(5)); }

Result<Config> LoadEffectiveConfig(const ConfigFlags& flags) {
  ConfigInput input;
  if (!flags.file.empty()) input.file = flags.file;
  input.sets = flags.sets;
  input.environment = Environment();
  ConfigResult loaded = LoadConfig(input);
  if (!loaded.problems.lines.empty()) {
    std::string all;
    for (const std::string& line : loaded.problems.lines) all += (all.empty() ? "" : "\n") + line;
    return Error(ErrorCode::kInvalidArgument, all);
  }
  FindDefaultModel(loaded.config);
  SetUpLogging(loaded.config);
  return std::move(loaded.config);
}

ServingOptions ServingOptionsFor(const Config& config) {
  return {.scoring = ParseNumberType(config.model.precision),  // nothing: auto
          .cache_precision = config.model.cache_precision,
          .protobuf_schema_id =
              config.sink.format == kProtobufFormat ? std::optional(config.sink.protobuf_schema_id) : std::nullopt};
}

Result<size_t> HistoryFor(const Config& config, const Model& model) {
  const size_t needed = model.config.exact_history();
  if (!config.state.history) return needed;
  if (static_cast<size_t>(*config.state.history) < needed) {
    return Error(ErrorCode::kInvalidArgument,
                 "state.history: " + std::to_string(*config.state.history) + ", expected auto or at least " +
                     std::to_string(needed) + ", which an exact rebuild of model " + model.name + " needs (" +
                     (model.config.recomputes() ? "window" : "layers · (window - 1) + 1") + ")");
  }
  return static_cast<size_t>(*config.state.history);
}

Result<std::unique_ptr<StateDirectory>> OpenStateDirectory(const Config& config, size_t history) {
  StateOptions options;
  options.directory = config.state.directory;
  options.application = config.application;
  options.hot_cache_bytes = config.state.hot_cache_bytes;
  options.block_cache_bytes = config.state.block_cache_bytes;
  options.write_buffer_bytes = config.state.write_buffer_bytes;
  options.history = history;
  if (config.snapshots.topic != "none") options.snapshots = config.snapshots.topic;
  options.shorten_history = config.state.history.has_value();
  options.rocksdb_options = config.state.rocksdb_options;
  return StateDirectory::Open(options);
}

Status CheckStateIsOf(const StateDirectory& states, const std::string& source, const Config& config) {
  const std::optional<std::string> bound = states.Fact(kSourceFact);
  if (!bound || *bound == source) return {};
  return Error(ErrorCode::kInvalidArgument, "state.directory: " + config.state.directory + ": holds the state of " +
                                                *bound + ", expected that of " + source +
                                                "; set another state.directory");
}

Status BindStateTo(StateDirectory& states, const std::string& source, const Config& config) {
  RETURN_IF_ERROR(CheckStateIsOf(states, source, config));
  if (states.Fact(kSourceFact)) return {};
  return states.SetFact(kSourceFact, source);
}

std::string SnapshotsOf(const std::string& application, const std::string& source) {
  const size_t topic = source.find("Kafka topic ");
  return "application " + application + ", " + (topic == source.npos ? source : source.substr(topic + 6));
}

PipelineOptions PipelineOptionsFor(const Config& config, int workers) {
  PipelineOptions options;
  options.topic = config.source.topic;
  options.emit = config.processing.emit;
  options.top_k = config.recommend.top_k;
  options.exclude_seen = config.recommend.exclude_seen;
  options.include_user_vector = config.sink.include_user_vector;
  options.max_batch = static_cast<size_t>(config.processing.max_batch);
  options.commit_interval = config.processing.commit_interval;
  options.hot_cache_bytes = config.state.hot_cache_bytes / static_cast<size_t>(workers);
  return options;
}

KafkaOptions KafkaOptionsFor(const Config& config) {
  KafkaOptions options;
  options.application = config.application;
  options.bootstrap_servers = config.kafka.bootstrap_servers;
  options.properties = config.kafka.properties;
  options.source_topic = config.source.topic;
  options.start = config.source.start;
  options.on_offset_gap = config.source.on_offset_gap;
  options.recommendations_topic = config.sink.topic;
  options.dead_letters_topic = config.dead_letters.topic;
  options.keep_waiting = KeepWaiting;
  options.keep_starting = [] { return !stop_requested; };
  return options;
}

Status CheckRecordSizes(const Config& config, const KafkaOptions& kafka, const ServingModel& serving, size_t history) {
  ASSIGN_OR_RETURN(const size_t most, MaxRecordBytes(kafka));
  const auto check = [&](const std::string& what, size_t bytes, const std::string& topic) -> Status {
    if (bytes <= most) return {};
    return Error(ErrorCode::kInvalidArgument,
                 what + " of up to " + WithThousands(static_cast<int64_t>(bytes)) + " bytes, and the producer takes " +
                     WithThousands(static_cast<int64_t>(most)) +
                     " (kafka.properties.message.max.bytes less 512): lower the one, or raise the other, with "
                     "max.message.bytes of topic " +
                     topic);
  };
  const size_t id_bytes = config.source.decoder.max_id_bytes;
  const auto top_k = static_cast<size_t>(config.recommend.top_k);
  const size_t dim = config.sink.include_user_vector ? static_cast<size_t>(serving.model->config.dim) : 0;
  RETURN_IF_ERROR(check(
      "recommend.top_k: " + std::to_string(top_k) + " items of model " + serving.model->name + " make a recommendation",
      id_bytes + serving.records().MaxBytes(id_bytes, config.source.topic, top_k, dim) + kMaxTraceBytes,
      kafka.recommendations_topic));
  if (kafka.snapshots_topic.empty()) return {};
  return check("state.history: " + std::to_string(history) + " events kept for a user make a snapshot record",
               MaxSnapshotBytes(id_bytes, history), kafka.snapshots_topic);
}

Result<std::string> InstanceOf(StateDirectory& states) {
  if (const auto instance = states.Fact("instance")) return *instance;
  std::random_device random;
  char instance[9];
  std::snprintf(instance, sizeof(instance), "%08x", random());
  RETURN_IF_ERROR(states.SetFact("instance", instance));
  return std::string(instance);
}

std::function<Origin(PartitionId, Offset)> OriginInTopic(const std::string& topic) {
  return [topic](PartitionId partition, Offset offset) { return Origin{topic, partition, offset}; };
}

int WorkersFor(const Config& config, int partitions) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const int wanted = config.processing.workers.value_or(cores);
  return partitions > 0 ? std::min(wanted, partitions) : wanted;
}

const std::atomic<bool>& StopOnSignals() {
  std::signal(SIGTERM, RequestStop);
  std::signal(SIGINT, RequestStop);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error, as a full disk is
  return stop_requested;
}

// Blocked rather than handled: a handler would interrupt waits of librdkafka and RocksDB while they go on working.
void HoldHangups() {
  const sigset_t hangup = Hangup();
  pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
}

bool TakeHangup() {
  const sigset_t hangup = Hangup();
  constexpr timespec kAtOnce{};
  return sigtimedwait(&hangup, nullptr, &kAtOnce) == SIGHUP;
}

int ExitCodeOf(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
      return 2;
    case ErrorCode::kNeedsDecision:
      return 3;
    default:
      return 1;
  }
}

double ProcessCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace freshet
