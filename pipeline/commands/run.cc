// freshet run: the stream processor, Kafka to Kafka, until SIGTERM.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ingest/kafka.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config_values.h"
#include "pipeline/control_plane.h"
#include "pipeline/snapshot_file.h"
#include "pipeline/version.h"
#include "pipeline/worker.h"

namespace freshet {
namespace {

struct RunFlags {
  ConfigFlags config;
  std::string snapshot;
};

KafkaOptions KafkaOptionsOf(const Config& config) {
  KafkaOptions options = KafkaOptionsFor(config);
  options.transaction_timeout += config.processing.commit_interval;
  if (config.snapshots.topic != "none") options.snapshots_topic = config.snapshots.topic;
  return options;
}

Result<std::vector<Worker>> MakeWorkers(const Config& config, const ServingModel& serving, StateDirectory& states,
                                        Metrics& metrics, const SnapshotOptions& snapshots) {
  KafkaOptions kafka = KafkaOptionsOf(config);
  if (const auto given = kafka.properties.extract("group.instance.id")) {  // the process's; each worker is a member
    kafka.instance = given.mapped();
  } else {
    ASSIGN_OR_RETURN(kafka.instance, InstanceOf(states));
  }
  const int count = WorkersFor(config, 0);
  std::vector<Worker> workers(static_cast<size_t>(count));
  for (int w = 0; w < count; ++w) {
    Worker& worker = workers[static_cast<size_t>(w)];
    ASSIGN_OR_RETURN(worker.decoder, MakeDecoder(config.source.decoder));
    kafka.worker = w;
    if (config.processing.guarantee == Guarantee::kExactlyOnce) {
      ASSIGN_OR_RETURN(KafkaEnds ends, MakeTransactionalKafkaEnds(kafka));
      worker.source = std::move(ends.source);
      worker.sink = std::move(ends.sink);
    } else {
      ASSIGN_OR_RETURN(worker.source, MakeKafkaSource(kafka));
      ASSIGN_OR_RETURN(worker.sink, MakeKafkaSink(kafka));
    }
    PipelineOptions options = PipelineOptionsFor(config, count);
    options.keep_user_vectors = true;
    options.origin = OriginInTopic(kafka.source_topic);
    options.snapshots = snapshots;
    worker.pipeline = std::make_unique<Pipeline>(std::move(options), serving, *worker.decoder, *worker.source,
                                                 *worker.sink, states, &metrics.Worker(w));
  }
  return workers;
}

ControlPlaneOptions ControlPlaneOptionsFor(const Config& config, const Model& model) {
  ControlPlaneOptions options;
  options.listen = config.http.listen;
  options.top_k = config.recommend.top_k;
  options.application = config.application;
  options.model_name = model.name;
  options.model_version = model.version;
  options.freshet_version = kVersion;
  return options;
}

std::string NameOf(const Config& config) { return "Kafka topic " + config.source.topic; }

// Which partition holds a user depends on how many there are.
Status CheckPartitions(const Config& config, StateDirectory& states, int partitions) {
  const std::optional<std::string> before = states.Fact("source_partitions");
  if (!before) return states.SetFact("source_partitions", std::to_string(partitions));
  if (*before == std::to_string(partitions)) return {};
  return Error(ErrorCode::kNeedsDecision,
               "source.topic: " + config.source.topic + " has " + std::to_string(partitions) +
                   " partitions, and state was built from " + *before +
                   ": users are in other partitions now. Begin anew with another application, state.directory and "
                   "snapshots.topic, or bring back a topic of " +
                   *before + " partitions");
}

// The topics as they have to be, and where snapshots are.
Result<SnapshotOptions> PrepareTopics(const RunFlags& flags, const Config& config, StateDirectory& states,
                                      const Waiting& waiting) {
  const KafkaOptions kafka = KafkaOptionsOf(config);
  RETURN_IF_ERROR(CheckTopics(kafka, waiting));
  ASSIGN_OR_RETURN(const int partitions, CountSourcePartitions(kafka, waiting));
  RETURN_IF_ERROR(CheckPartitions(config, states, partitions));
  SnapshotOptions snapshots;
  snapshots.interval = config.snapshots.interval;
  snapshots.whose = SnapshotsOf(config.application, NameOf(config));
  if (!flags.snapshot.empty()) {
    ASSIGN_OR_RETURN(const SnapshotFiles files, SnapshotFiles::Find(flags.snapshot, {snapshots.whose, partitions}));
    snapshots.file = [files](PartitionId partition) { return files.Read(partition); };
  }
  if (kafka.snapshots_topic.empty()) return snapshots;
  ASSIGN_OR_RETURN(snapshots.empty, MakeSnapshotTopic(kafka, partitions, waiting));
  snapshots.read = [kafka](PartitionId partition) { return ReadSnapshot(kafka, partition); };
  return snapshots;
}

// One partition a call, so that those which are opened meanwhile do not wait for long.
void RemoveLostState(const Config& config, StateDirectory& states, Metrics& metrics) {
  const auto removed = states.RemoveLostPartition(config.state.keep_lost);
  if (!removed.ok()) {
    spdlog::warn("{}; local state of partitions that went to other instances stays", removed.error().message());
  } else if (*removed) {
    spdlog::info("{}[{}]: has been another instance's for {}: its local state is deleted", config.source.topic,
                 Raw(**removed), FormatDuration(config.state.keep_lost));
    metrics.AddRemovedPartition();
  }
}

Status Run(const RunFlags& flags) {
  const std::atomic<bool>& stop = StopOnSignals();
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags.config));
  ASSIGN_OR_RETURN(const ServingModel serving, ServingModel::Load(config.model.directory));
  ASSIGN_OR_RETURN(const size_t history, HistoryFor(config, *serving.model));
  RETURN_IF_ERROR(CheckRecordSizes(config, KafkaOptionsOf(config), serving, history));
  ASSIGN_OR_RETURN(const std::unique_ptr<StateDirectory> states, OpenStateDirectory(config, history));
  RETURN_IF_ERROR(BindStateTo(*states, NameOf(config), config));
  const auto kept = std::strtoull(states->Fact("history").value_or("").c_str(), nullptr, 10);  // auto shortens nothing
  RETURN_IF_ERROR(CheckRecordSizes(config, KafkaOptionsOf(config), serving, kept));
  spdlog::info("model {} version {}, {} items; state in {}; {}", serving.model->name, serving.model->version,
               serving.model->config.items - 1, config.state.directory, KafkaClientDescription());

  Readiness readiness;
  readiness.NotReady("kafka", "not connected yet");
  const std::unique_ptr<Metrics> metrics = Metrics::Make(kVersion, serving.model->name, serving.model->version);
  LiveQueries queries(WorkersFor(config, 0));
  for (int worker = 0; worker < WorkersFor(config, 0); ++worker) {
    queries.Close(worker);  // nobody is there to answer yet
    readiness.NotReady("worker " + std::to_string(worker), "has not begun");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ControlPlane> control_plane,
                   ControlPlane::Start(ControlPlaneOptionsFor(config, *serving.model), readiness, *metrics, queries));
  spdlog::info("serving /healthz, /readyz, /metrics and /v1 on port {}", control_plane->port());

  const auto snapshots = PrepareTopics(flags, config, *states, [&](const std::string& reason) {
    readiness.NotReady("kafka", reason);
    return !stop;
  });
  if (stop) return {};  // asked to stop before there was anything to drain
  if (!snapshots.ok()) return snapshots.error();
  readiness.Ready("kafka");

  auto made = MakeWorkers(config, serving, *states, *metrics, *snapshots);
  if (stop) return {};  // likewise
  ASSIGN_OR_RETURN(std::vector<Worker> workers, std::move(made));
  WorkerOptions options;
  options.readiness = &readiness;
  options.queries = &queries;
  options.tidy = [&] { RemoveLostState(config, *states, *metrics); };
  options.tidy_interval = std::clamp<std::chrono::milliseconds>(config.state.keep_lost / 10, std::chrono::seconds(1),
                                                                std::chrono::minutes(1));
  PipelineCounts counts;
  const Status status = RunWorkers(workers, stop, options, counts);
  spdlog::info("stopped: {} events, {} recommendations, {} dead letters since the start", counts.events,
               counts.recommendations, counts.dead_letters);
  return status;
}

}  // namespace

void AddRun(CLI::App& app, Action& action) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* const command = app.add_subcommand("run", "The stream processor: Kafka in, Kafka out, until SIGTERM");
  AddConfigFlags(*command, flags->config);
  AddSnapshotFlag(*command, flags->snapshot);
  command->footer(
      "Example:\n  freshet run -c freshet.yaml --set kafka.bootstrap_servers=broker:9092\n"
      "SIGTERM drains, commits and exits 0.");
  command->callback([flags, &action] { action = [flags] { return Run(*flags); }; });
}

}  // namespace freshet
