// freshet replay: log files, or a range of the topic, through the same pipeline, to their end.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/thousands.h"
#include "ingest/log_files.h"
#include "pipeline/commands/commands.h"
#include "pipeline/commands/outputs.h"
#include "pipeline/commands/replay_range.h"
#include "pipeline/progress.h"
#include "pipeline/snapshot_file.h"
#include "pipeline/text_file.h"
#include "pipeline/worker.h"

namespace freshet {
namespace {

constexpr char kLogFiles[] = "log files";  // as the source that state is bound to

struct ReplayFlags {
  ConfigFlags config;
  std::vector<std::string> inputs;
  RangeFlags range;
  std::string output;
  std::string emit;
  std::string snapshot;
};

// Sends what goes to Kafka there, and the positions to the commit log, once Kafka has everything.
class CommitLogSink : public RecordSink {
 public:
  CommitLogSink(std::unique_ptr<RecordSink> inner, CommitLog& commit_log)
      : inner_(std::move(inner)), commit_log_(commit_log) {}

  Status Publish(std::span<const OutputRecord> records) override { return inner_->Publish(records); }
  Status Commit(std::span<const PartitionPosition> positions) override {
    RETURN_IF_ERROR(inner_->Commit(positions));
    return commit_log_.Commit(positions, {});
  }
  Status Abort() override { return inner_->Abort(); }

 private:
  std::unique_ptr<RecordSink> inner_;
  CommitLog& commit_log_;
};

Status CheckInput(const ReplayFlags& flags) {
  if (flags.range.given() && !flags.inputs.empty()) {
    return Error(ErrorCode::kInvalidArgument, "--input: " + flags.inputs.front() +
                                                  ": expected log files, or a range of source.topic by --from and "
                                                  "--to, not both");
  }
  if (flags.range.given()) return CheckRange(flags.range.begin(), flags.range.end());
  if (!flags.inputs.empty()) return {};
  return Error(ErrorCode::kInvalidArgument,
               "--input: missing; expected log files, or a range of source.topic by --from and --to (earliest, latest, "
               "or an ISO 8601 time)");
}

// `replay --emit` knows more than processing.emit.
void ApplyEmit(const std::string& emit, Config& config) {
  static const std::map<std::string, Emit> kNames = {
      {"every", Emit::kEvery}, {"latest", Emit::kLatest}, {"final", Emit::kFinal}, {"none", Emit::kNone}};
  if (!emit.empty()) config.processing.emit = kNames.at(emit);
}

// Beside the output where that is a file; standard output, pipes and devices have no place beside them.
std::string DeadLetterPath(const ReplayFlags& flags, const Config& config) {
  if (flags.output.empty() || flags.output == "-" || flags.output == "kafka" || FileAt(flags.output).empty()) {
    return (std::filesystem::path(config.state.directory) / "dead-letters.jsonl").string();
  }
  return flags.output + ".dead-letters.jsonl";
}

// An output is cut to its committed length when it is opened: that must never happen to what is read, nor to the state.
Status CheckOutputs(const ReplayFlags& flags, const Config& config) {
  std::vector<FileRead> read = FilesRead(flags.config, flags.inputs, std::span(&config.model.directory, 1));
  if (!flags.snapshot.empty()) AddFilesOf(flags.snapshot, "the snapshot's", read);
  RETURN_IF_ERROR(CheckOutputFile("--output", DeadLetterPath(flags, config), read));
  if (flags.output.empty() || flags.output == "-" || flags.output == "kafka") return {};
  RETURN_IF_ERROR(CheckOutputFile("--output", flags.output, read));
  return CheckOutputIsNoState("--output", flags.output, config.state.directory);
}

// The files that all workers share.
struct ReplayFiles {
  std::unique_ptr<CommitLog> commit_log;
  std::shared_ptr<OutputFile> recommendations;
  std::shared_ptr<OutputFile> dead_letters;
};

// The commit log is there before the first partition is: without it, what is in the state would pass for answered, and
// the outputs for empty.
Status CheckCommitLogIsThere(const std::filesystem::path& commit_log, const StateDirectory& states) {
  std::error_code unreadable;
  if (std::filesystem::exists(commit_log, unreadable) || unreadable) return {};
  ASSIGN_OR_RETURN(const std::vector<PartitionId> partitions, states.Partitions());
  if (partitions.empty()) return {};
  return Error(ErrorCode::kCorrupt, "state.directory: " + commit_log.string() + " is missing, but partition-" +
                                        std::to_string(Raw(partitions.front())) +
                                        " is there; put the file back, or begin with another state.directory");
}

Result<ReplayFiles> OpenFiles(const ReplayFlags& flags, const Config& config, const StateDirectory& states,
                              int partitions, const std::function<bool()>& keep_waiting) {
  const std::vector<std::filesystem::path> inputs(flags.inputs.begin(), flags.inputs.end());
  ReplayFiles files;
  const std::filesystem::path commit_log = std::filesystem::path(config.state.directory) / kCommitLog;
  RETURN_IF_ERROR(CheckCommitLogIsThere(commit_log, states));
  if (!flags.snapshot.empty()) {
    RETURN_IF_ERROR(CommitLog::Adopt(std::filesystem::path(flags.snapshot) / kCommitLog, commit_log));
  }
  ASSIGN_OR_RETURN(files.commit_log, CommitLog::Open(commit_log, inputs, partitions));
  if (flags.output == "kafka") return files;
  const bool nothing = config.processing.emit == Emit::kNone;
  const std::string output = nothing ? "" : flags.output.empty() ? "-" : flags.output;
  // What `final` writes is whole at the end of each run, so that another run does not add to it.
  const bool anew = config.processing.emit == Emit::kFinal;
  ASSIGN_OR_RETURN(files.recommendations, OpenOutputFile(output, *files.commit_log, anew, keep_waiting));
  ASSIGN_OR_RETURN(files.dead_letters,
                   OpenOutputFile(DeadLetterPath(flags, config), *files.commit_log, false, keep_waiting));
  return files;
}

Result<std::unique_ptr<RecordSink>> MakeSink(const ReplayFlags& flags, const Config& config, ReplayFiles& files) {
  if (flags.output != "kafka") return MakeFileSink(files.recommendations, files.dead_letters, *files.commit_log);
  ASSIGN_OR_RETURN(std::unique_ptr<RecordSink> kafka, MakeKafkaSink(KafkaOptionsFor(config)));
  return std::unique_ptr<RecordSink>(std::make_unique<CommitLogSink>(std::move(kafka), *files.commit_log));
}

// Where the events come from: log files, or a range of the topic.
struct Input {
  int partitions = 0;
  std::optional<TopicRange> range;
  SnapshotOptions snapshots;
};

// How many parts the users are spread over is settled when the state directory is new: it decides which partition holds
// a user.
Result<int> FilePartitions(const Config& config, const StateDirectory& states) {
  if (const auto fact = states.Fact("file_partitions")) {
    int partitions = 0;
    std::from_chars(fact->data(), fact->data() + fact->size(), partitions);
    if (partitions > 0 && partitions != config.state.partitions) {
      spdlog::info("state.partitions: {} is not used: the users in {} are spread over {} since it was made",
                   config.state.partitions, config.state.directory, partitions);
    }
    if (partitions > 0) return partitions;
    return Error(ErrorCode::kCorrupt, "state.directory: " + config.state.directory + ": FORMAT: file_partitions is \"" +
                                          *fact + "\", expected a number above 0");
  }
  return config.state.partitions;
}

// Of a stored offset: of a topic as it is; of log files, which file and which of its records.
std::function<Origin(PartitionId, Offset)> OriginOf(const ReplayFlags& flags, const Config& config,
                                                    const CommitLog& commit_log) {
  if (flags.range.given()) return OriginInTopic(config.source.topic);
  std::map<int64_t, std::string> names;
  for (const std::filesystem::path input : flags.inputs) names[commit_log.FileIndex(input)] = input.filename().string();
  return [names](PartitionId, Offset offset) {
    const auto found = names.find(FileIndexOf(offset));
    return Origin{found == names.end() ? "" : found->second, PartitionId{0}, Offset{OrdinalOf(offset)}};
  };
}

// Binds the state to the input, after the brokers, where there are any, answered.
Result<Input> OpenInput(const ReplayFlags& flags, const Config& config, StateDirectory& states,
                        const Waiting& waiting) {
  const bool to_kafka = flags.output == "kafka";
  const bool from_kafka = flags.range.given();
  KafkaOptions kafka = KafkaOptionsFor(config);
  if (!from_kafka) kafka.source_topic.clear();
  if (!to_kafka) kafka.recommendations_topic = kafka.dead_letters_topic = "";
  if (from_kafka || to_kafka) RETURN_IF_ERROR(CheckTopics(kafka, waiting));
  const std::string name = from_kafka ? NameOf(flags.range, kafka) : kLogFiles;
  RETURN_IF_ERROR(BindStateTo(states, name, config));
  if (to_kafka) RETURN_IF_ERROR(CheckNobodyRuns(kafka, waiting));
  Input input;
  if (from_kafka) {
    ASSIGN_OR_RETURN(input.range, RangeFor(flags.range, kafka, states, waiting));
    input.partitions = static_cast<int>(input.range->size());
  } else {
    ASSIGN_OR_RETURN(input.partitions, FilePartitions(config, states));
  }
  if (!flags.snapshot.empty()) {
    input.snapshots.whose = SnapshotsOf(config.application, name);
    ASSIGN_OR_RETURN(const SnapshotFiles files,
                     SnapshotFiles::Find(flags.snapshot, {input.snapshots.whose, input.partitions}));
    input.snapshots.file = [files](PartitionId partition) { return files.Read(partition); };
    input.snapshots.slice = std::chrono::hours(24 * 365);
  }
  if (!from_kafka) RETURN_IF_ERROR(states.SetFact("file_partitions", std::to_string(input.partitions)));
  return input;
}

Result<std::unique_ptr<EventSource>> MakeSource(const ReplayFlags& flags, const Config& config, const Input& input,
                                                int worker, int workers, const EventDecoder& decoder,
                                                const CommitLog& commit_log) {
  if (input.range) return MakeKafkaRangeSource(KafkaOptionsFor(config), *input.range, worker, workers, &commit_log);
  LogFileOptions source;
  source.paths.assign(flags.inputs.begin(), flags.inputs.end());
  ASSIGN_OR_RETURN(source.has_header, HasHeaderLine(config.source.decoder));
  source.check_header = [&decoder](std::string_view header) { return decoder.CheckHeader(header); };
  source.partitions = input.partitions;
  source.worker = worker;
  source.workers = workers;
  return MakeLogFileSource(std::move(source), commit_log);
}

Result<std::vector<Worker>> MakeWorkers(const ReplayFlags& flags, const Config& config, const ServingModel& serving,
                                        StateDirectory& states, const Input& input, ReplayFiles& files) {
  const int count = WorkersFor(config, input.partitions);
  std::vector<Worker> workers(static_cast<size_t>(count));
  for (int w = 0; w < count; ++w) {
    Worker& worker = workers[static_cast<size_t>(w)];
    ASSIGN_OR_RETURN(worker.decoder, MakeDecoder(config.source.decoder));
    ASSIGN_OR_RETURN(worker.sink, MakeSink(flags, config, files));
    ASSIGN_OR_RETURN(worker.source, MakeSource(flags, config, input, w, count, *worker.decoder, *files.commit_log));
    PipelineOptions options = PipelineOptionsFor(config, count);
    options.file_partitions = input.range ? 0 : input.partitions;
    if (!input.range) options.topic = kLogFiles;
    options.origin = OriginOf(flags, config, *files.commit_log);
    options.snapshots = input.snapshots;
    worker.pipeline = std::make_unique<Pipeline>(std::move(options), Borrowed(serving), *worker.decoder, *worker.source,
                                                 *worker.sink, states, nullptr);
  }
  return workers;
}

void PrintSummary(const PipelineCounts& counts, double seconds, double cpu_seconds) {
  const auto events = static_cast<double>(counts.events);
  spdlog::info(
      "replayed {} events: {} recommendations, {} dead letters, {} repeats dropped, {} without a known item, "
      "{} duplicates dropped; {:.1f} s, {:.0f} events/s, {:.1f} µs CPU per event",
      counts.events, counts.recommendations, counts.dead_letters, counts.repeats, counts.unknown_items,
      counts.duplicates, seconds, events / std::max(seconds, 1e-9), events > 0 ? cpu_seconds / events * 1e6 : 0.0);
  if (counts.lists > 0) {
    spdlog::info("{} of {} events ({:.1f} %) were of an item in the list that their user got before", counts.list_hits,
                 counts.lists, 100 * static_cast<double>(counts.list_hits) / static_cast<double>(counts.lists));
  }
}

// With progress until then: on a terminal its line ends before the summary.
Status RunToTheEnd(std::vector<Worker>& workers, const std::atomic<bool>& stop, Emit emit, PipelineCounts& counts) {
  Progress progress("replay", "events");
  WorkerOptions options;
  options.emit_final = emit == Emit::kFinal;
  options.progress = [&](const PipelineCounts& sum, double done) { progress.Update(sum.events, done); };
  return RunWorkers(workers, stop, options, counts);
}

Status Replay(const ReplayFlags& flags) {
  const std::atomic<bool>& stop = StopOnSignals();
  ASSIGN_OR_RETURN(Config config, LoadEffectiveConfig(flags.config));
  RETURN_IF_ERROR(CheckInput(flags));
  ApplyEmit(flags.emit, config);
  RETURN_IF_ERROR(CheckOutputs(flags, config));
  ServingOptions options = ServingOptionsFor(config);
  if (flags.output != "kafka") options.protobuf_schema_id.reset();  // a file has lines
  ASSIGN_OR_RETURN(const ServingModel serving, ServingModel::Load(config.model.directory, options));
  ASSIGN_OR_RETURN(const size_t history, HistoryFor(config, *serving.model));
  if (flags.output == "kafka") RETURN_IF_ERROR(CheckRecordSizes(config, KafkaOptionsFor(config), serving, history));
  ASSIGN_OR_RETURN(const std::unique_ptr<StateDirectory> states, OpenStateDirectory(config, history));
  const Waiting waiting = [&](const std::string&) { return !stop; };
  ASSIGN_OR_RETURN(const Input input, OpenInput(flags, config, *states, waiting));
  ASSIGN_OR_RETURN(ReplayFiles files,
                   OpenFiles(flags, config, *states, input.range ? 0 : input.partitions, [&] { return !stop; }));
  ASSIGN_OR_RETURN(std::vector<Worker> workers, MakeWorkers(flags, config, serving, *states, input, files));

  const auto began = std::chrono::steady_clock::now();
  const double cpu_began = ProcessCpuSeconds();
  PipelineCounts counts;
  RETURN_IF_ERROR(RunToTheEnd(workers, stop, config.processing.emit, counts));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (counts.events + counts.duplicates + counts.dead_letters == 0 && !stop) {
    spdlog::info(
        "nothing was left to read: the input is empty, or {} holds it already; to begin anew, set another "
        "state.directory",
        config.state.directory);
  }
  PrintSummary(counts, took.count(), ProcessCpuSeconds() - cpu_began);
  if (2 * counts.unknown_items > counts.events) {
    spdlog::warn("model.directory: {}: knows the items of {} of the {} events only; is it a model of this log?",
                 config.model.directory, WithThousands(counts.events - counts.unknown_items),
                 WithThousands(counts.events));
  }
  // A signal that came with the last commit interrupted nothing.
  if (!std::all_of(workers.begin(), workers.end(), [](const Worker& worker) { return worker.pipeline->Finished(); }))
    return Error(ErrorCode::kCancelled,
                 "interrupted; everything so far is committed, the same command goes on from there");
  return {};
}

}  // namespace

void AddReplay(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ReplayFlags>();
  CLI::App* const command =
      app.add_subcommand("replay", "Backfill: log files, or a range of the topic, through the pipeline, to their end");
  AddConfigFlags(*command, flags->config);
  command
      ->add_option("--input", flags->inputs,
                   "Log files, in order (JSON Lines, CSV or TSV by source.format; plain, gzip or zstd)")
      ->check(NotEmpty());
  command
      ->add_option("--from", flags->range.from,
                   "Instead of --input: reads source.topic from here on: earliest (default), latest, or an ISO 8601 "
                   "time, that of Kafka's records")
      ->check(NotEmpty());
  command->add_option("--to", flags->range.to, "Up to here, likewise; default: latest, as of the first start")
      ->check(NotEmpty());
  command
      ->add_option("--output", flags->output,
                   "File for the recommendations (.jsonl, .jsonl.gz, .jsonl.zst), or kafka; default: stdout")
      ->check(NotEmpty());
  command
      ->add_option("--emit", flags->emit,
                   "every: a record per event (default); latest: one per user and micro-batch; final: one per user at "
                   "the end, the file is written anew; none: state only")
      ->check(CLI::IsMember({"every", "latest", "final", "none"}));
  AddSnapshotFlag(*command, flags->snapshot);
  command->footer(
      "Example:\n  freshet replay --input clicks.jsonl.gz --output recommendations.jsonl --set "
      "model.directory=models/shop\n"
      "  freshet replay --from 2026-01-01 --to 2026-02-01 --output january.jsonl.zst --set "
      "state.directory=var/january\n"
      "Interrupted and started again on the same state, it goes on where it was.");
  command->callback([flags, &action] { action = [flags] { return Replay(*flags); }; });
}

}  // namespace freshet
