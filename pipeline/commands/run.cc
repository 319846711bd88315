// freshet run: the stream processor, Kafka to Kafka, until SIGTERM.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ingest/kafka.h"
#include "pipeline/commands/commands.h"
#include "pipeline/config_values.h"
#include "pipeline/control_plane.h"
#include "pipeline/event_intake.h"
#include "pipeline/model_reloader.h"
#include "pipeline/playground.h"
#include "pipeline/shoppers.h"
#include "pipeline/snapshot_file.h"
#include "pipeline/version.h"
#include "pipeline/worker.h"

namespace freshet {
namespace {

struct RunFlags {
  ConfigFlags config;
  std::string snapshot;
  bool embedded_broker = false;
  double shoppers = 0;  // clicks a second
};

constexpr char kPartitionsFact[] = "source_partitions";
// librdkafka looks for late records once a second: with that, less than the control plane waits for an answer.
constexpr auto kEventPatience = std::chrono::milliseconds(800);
constexpr auto kStopWithin = std::chrono::milliseconds(4500);

struct Topics {
  int partitions = 0;  // of the source
  SnapshotOptions snapshots;
};

KafkaOptions KafkaOptionsOf(const Config& config) {
  KafkaOptions options = KafkaOptionsFor(config);
  options.transaction_timeout += config.processing.commit_interval;
  options.advertise = config.http.advertise;
  if (config.snapshots.topic != "none") options.snapshots_topic = config.snapshots.topic;
  return options;
}

Result<std::vector<Worker>> MakeWorkers(const Config& config, const CurrentModel& model, StateDirectory& states,
                                        Metrics& metrics, const Topics& topics, DeadLetterSamples& samples) {
  KafkaOptions kafka = KafkaOptionsOf(config);
  kafka.source_partitions = topics.partitions;
  if (const auto given = kafka.properties.extract("group.instance.id")) {  // the process's; each worker is a member
    kafka.instance = given.mapped();
  } else {
    ASSIGN_OR_RETURN(kafka.instance, InstanceOf(states));
  }
  const int count = WorkersFor(config, 0);
  std::vector<Worker> workers(static_cast<size_t>(count));
  for (int w = 0; w < count; ++w) {
    Worker& worker = workers[static_cast<size_t>(w)];
    ASSIGN_OR_RETURN(std::unique_ptr<EventDecoder> decoder, MakeDecoder(config.source.decoder));
    worker.decoder = WithSamples(std::move(decoder), samples);
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
    options.snapshots = topics.snapshots;
    worker.pipeline = std::make_unique<Pipeline>(std::move(options), model.Newer(nullptr), *worker.decoder,
                                                 *worker.source, *worker.sink, states, &metrics.Worker(w));
  }
  return workers;
}

ControlPlaneOptions ControlPlaneOptionsFor(const Config& config, EventIntake& intake) {
  ControlPlaneOptions options{config.http};
  options.top_k = config.recommend.top_k;
  options.application = config.application;
  options.freshet_version = kVersion;
  options.source_topic = config.source.topic;
  const auto receipt = [](std::function<void(Result<EventReceipt>)> done) {
    return [done = std::move(done)](const Result<PartitionPosition>& place) {
      if (!place.ok()) return done(place.error());
      done(EventReceipt{Raw(place->partition), Raw(place->next)});
    };
  };
  options.take_event = [&intake, receipt](std::string_view body, const TraceContext& trace,
                                          std::function<void(Result<EventReceipt>)> done) {
    intake.Take(body, trace, receipt(std::move(done)));
  };
  options.forget_user = [&intake, receipt](std::string_view user, const TraceContext& trace,
                                           std::function<void(Result<EventReceipt>)> done) {
    intake.Forget(user, trace, receipt(std::move(done)));
  };
  return options;
}

std::optional<UserOwner> OwnerOf(const PartitionOwners& owners, std::string_view user) {
  const auto owner = owners.Find(user);
  if (!owner) return std::nullopt;
  return UserOwner{Raw(owner->partition), owner->address, owner->age};
}

Result<ItemTitles> TitlesOf(const Config& config) {
  if (config.items.file.empty()) return ItemTitles();
  auto titles = ItemTitles::Load(config.items.file);
  if (!titles.ok()) return titles.error().At("items.file");
  return titles;
}

std::string NameOf(const Config& config) { return "Kafka topic " + config.source.topic; }

// The topics as they have to be, and where snapshots are.
Result<Topics> PrepareTopics(const RunFlags& flags, const Config& config, const StateDirectory& states,
                             const Waiting& waiting) {
  const KafkaOptions kafka = KafkaOptionsOf(config);
  RETURN_IF_ERROR(CheckTopics(kafka, waiting));
  Topics topics;
  ASSIGN_OR_RETURN(topics.partitions, CountSourcePartitions(kafka, waiting));
  // Which partition holds a user depends on how many there are.
  const std::string before = states.Fact(kPartitionsFact).value_or(std::to_string(topics.partitions));
  if (before != std::to_string(topics.partitions)) {
    return OtherPartitions(config.source.topic, std::atoi(before.c_str()), topics.partitions);
  }
  SnapshotOptions& snapshots = topics.snapshots;
  snapshots.interval = config.snapshots.interval;
  snapshots.whose = SnapshotsOf(config.application, NameOf(config));
  if (!flags.snapshot.empty()) {
    ASSIGN_OR_RETURN(const SnapshotFiles files,
                     SnapshotFiles::Find(flags.snapshot, {snapshots.whose, topics.partitions}));
    snapshots.file = [files](PartitionId partition) { return files.Read(partition); };
  }
  if (kafka.snapshots_topic.empty()) return topics;
  ASSIGN_OR_RETURN(snapshots.empty, MakeSnapshotTopic(kafka, topics.partitions, waiting));
  snapshots.read = [kafka](PartitionId partition) { return ReadSnapshot(kafka, partition); };
  return topics;
}

// What the directory holds from now on. Not before the topics were found as they have to be: a name with a slip in it
// would hold on to the directory.
Status Bind(StateDirectory& states, const Config& config, int partitions) {
  RETURN_IF_ERROR(BindStateTo(states, NameOf(config), config));
  if (states.Fact(kPartitionsFact)) return {};
  return states.SetFact(kPartitionsFact, std::to_string(partitions));
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

// Whether an instance whose state keeps `history` tokens of a user can go over to this model while it runs.
Status SuitsInstance(const Config& config, const ServingModel& serving, size_t history) {
  const Model& model = *serving.model;
  if (const size_t needed = model.config.exact_history(); needed > history) {
    return Error(ErrorCode::kInvalidArgument, "an exact rebuild of model " + model.name + " needs the last " +
                                                  std::to_string(needed) + " events of a user, and the state keeps " +
                                                  std::to_string(history) + " (state.history): this takes a restart");
  }
  return CheckRecordSizes(config, KafkaOptionsOf(config), serving, history);
}

ModelReloaderOptions ReloaderOptionsFor(const Config& config, std::filesystem::path loaded_from, size_t history) {
  ModelReloaderOptions options;
  options.directory = config.model.directory;
  options.loaded_from = std::move(loaded_from);
  options.serving = ServingOptionsFor(config);
  options.asked = TakeHangup;
  options.suits = [&config, history](const ServingModel& serving) { return SuitsInstance(config, serving, history); };
  return options;
}

// Ends the process when it was asked to stop and does not: librdkafka waits for absent brokers for up to a minute, in
// calls that nothing interrupts. It is as after kill -9: what was not committed is processed again at the next start.
void EndInTime(const std::stop_token& ended, const std::atomic<bool>& stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  const auto wait = [&](std::chrono::milliseconds time) { changed.wait_for(lock, ended, time, [] { return false; }); };
  while (!ended.stop_requested() && !stop) wait(std::chrono::milliseconds(100));
  if (!ended.stop_requested()) wait(kStopWithin);
  if (ended.stop_requested()) return;
  spdlog::error(
      "asked to stop, and not done after 4.5 s (brokers that do not answer?): ends as it is; what was not committed "
      "comes again");
  spdlog::shutdown();
  std::_Exit(1);
}

Status Run(const RunFlags& flags) {
  HoldHangups();  // they ask for the model to be loaded anew, once there is one
  const std::atomic<bool>& stop = StopOnSignals();
  const std::jthread watch([&stop](const std::stop_token& ended) { EndInTime(ended, stop); });
  ASSIGN_OR_RETURN(Config config, LoadEffectiveConfig(flags.config));
  FlushLogRegularly();
  std::unique_ptr<Playground> playground;  // outlives all that uses its broker
  if (flags.embedded_broker) {
    ASSIGN_OR_RETURN(playground, Playground::Start(config));
  }
  const std::filesystem::path loaded_from = ModelDirectoryBehind(config.model.directory);
  ASSIGN_OR_RETURN(ServingModel serving, ServingModel::Load(loaded_from, ServingOptionsFor(config)));
  ASSIGN_OR_RETURN(const size_t history, HistoryFor(config, *serving.model));
  RETURN_IF_ERROR(CheckRecordSizes(config, KafkaOptionsOf(config), serving, history));
  ASSIGN_OR_RETURN(const std::unique_ptr<StateDirectory> states, OpenStateDirectory(config, history));
  RETURN_IF_ERROR(CheckStateIsOf(*states, NameOf(config), config));
  const auto kept = std::strtoull(states->Fact("history").value_or("").c_str(), nullptr, 10);  // auto shortens nothing
  RETURN_IF_ERROR(CheckRecordSizes(config, KafkaOptionsOf(config), serving, kept));
  ASSIGN_OR_RETURN(const ItemTitles titles, TitlesOf(config));
  spdlog::info("model {} version {}, {} items, scored in {}; state in {}; {}", serving.model->name,
               serving.model->version, serving.model->config.items - 1, NumberTypeName(serving.ranker->precision()),
               config.state.directory, KafkaClientDescription());

  Readiness readiness;
  readiness.NotReady("kafka", "not connected yet");
  const std::unique_ptr<Metrics> metrics =
      Metrics::Make(kVersion, {serving.model->name, serving.model->version, serving.written_s});
  LiveQueries queries(WorkersFor(config, 0));
  for (int worker = 0; worker < WorkersFor(config, 0); ++worker) {
    queries.Close(worker);  // nobody is there to answer yet
    readiness.NotReady("worker " + std::to_string(worker), "has not begun");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<EventWriter> writer, MakeEventWriter(KafkaOptionsOf(config), kEventPatience));
  ASSIGN_OR_RETURN(std::unique_ptr<EventDecoder> decoder, MakeDecoder(config.source.decoder));
  if (flags.shoppers > 0) RETURN_IF_ERROR(CheckShoppersFit(*serving.model, *decoder));
  const auto items = static_cast<uint32_t>(serving.model->config.items - 1);
  EventIntake intake(std::move(decoder), *writer);
  DeadLetterSamples samples;
  std::unique_ptr<PartitionOwners> owners;
  if (!config.http.advertise.empty()) {
    ASSIGN_OR_RETURN(owners, MakePartitionOwners(KafkaOptionsOf(config)));
  }
  ControlPlaneOptions plane_options = ControlPlaneOptionsFor(config, intake);
  if (owners) plane_options.find_owner = [&owners](std::string_view user) { return OwnerOf(*owners, user); };
  plane_options.dead_letters = &samples;
  plane_options.items = &titles;
  plane_options.embedded_broker = playground != nullptr;
  ASSIGN_OR_RETURN(const std::unique_ptr<ControlPlane> control_plane,
                   ControlPlane::Start(plane_options, readiness, *metrics, queries));
  spdlog::info("serving /healthz, /readyz, /metrics, /v1 and the dashboard on port {}", control_plane->port());

  const auto topics = PrepareTopics(flags, config, *states, [&](const std::string& reason) {
    readiness.NotReady("kafka", reason);
    return !stop;
  });
  if (stop) return {};  // asked to stop before there was anything to drain
  if (!topics.ok()) return topics.error();
  RETURN_IF_ERROR(Bind(*states, config, topics->partitions));
  readiness.Ready("kafka");

  CurrentModel model(std::make_shared<const ServingModel>(std::move(serving)));
  auto made = MakeWorkers(config, model, *states, *metrics, *topics, samples);
  if (stop) return {};  // likewise
  ASSIGN_OR_RETURN(std::vector<Worker> workers, std::move(made));
  const ModelReloader reloader(ReloaderOptionsFor(config, loaded_from, kept), model, *metrics);
  WorkerOptions options;
  options.model = &model;
  options.readiness = &readiness;
  options.queries = &queries;
  options.tidy = [&] { RemoveLostState(config, *states, *metrics); };
  options.tidy_interval = std::clamp<std::chrono::milliseconds>(config.state.keep_lost / 10, std::chrono::seconds(1),
                                                                std::chrono::minutes(1));
  std::optional<Shoppers> shoppers;
  if (flags.shoppers > 0) shoppers.emplace(flags.shoppers, items, *writer);
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
  CLI::Option* const embedded =
      command->add_flag("--embedded-broker", flags->embedded_broker,
                        "For trying out, without Kafka: a broker within this process, at which kcat and others can "
                        "read and write. Not durable, not exactly once; begins with no state and leaves none");
  command
      ->add_option("--shoppers", flags->shoppers,
                   "Made-up users click this often, in events a second, on the demo model's items (0.1 to 10000)")
      ->needs(embedded)
      ->check(Number(0.1, 1e4));
  command->footer(
      "Example:\n  freshet run -c freshet.yaml --set kafka.bootstrap_servers=broker:9092\n"
      "  freshet run --embedded-broker --shoppers 50\n"
      "SIGTERM drains, commits and exits 0. SIGHUP loads the model anew; so does a changed link at model.directory.");
  command->callback([flags, &action] { action = [flags] { return Run(*flags); }; });
}

}  // namespace freshet
