#include "bench/replay_run.h"

#include <time.h>

#include <chrono>
#include <optional>
#include <utility>

#include "ingest/log_files.h"
#include "pipeline/setup.h"

namespace freshet::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Gives the thread's CPU time since the last report to the stage that reports.
class StageCosts final : public WorkerMetrics {
 public:
  explicit StageCosts(ReplayCost& cost) : cost_(cost) {}

  void ObserveStage(Stage stage, double, int64_t) override {
    const double now = ThreadCpuSeconds();
    if (!began_) {  // the first poll, which opens the partitions
      began_ = Began{now, ProcessCpuSeconds(), SteadyClock::now()};
    } else {
      cost_.stages[static_cast<size_t>(stage)] += now - last_;
    }
    last_ = now;
  }
  void SetHotCache(int64_t, int64_t, int64_t hits, int64_t misses, int64_t) override {
    cost_.hits = hits;
    cost_.misses = misses;
  }

  void Finish() {
    if (!began_) return;
    cost_.worker_seconds = ThreadCpuSeconds() - began_->thread;
    cost_.process_seconds = ProcessCpuSeconds() - began_->process;
    cost_.wall_seconds = std::chrono::duration<double>(SteadyClock::now() - began_->clock).count();
  }

  void AddEvents(int64_t) override {}
  void AddRepeats(int64_t) override {}
  void AddDuplicates(int64_t) override {}
  void AddUnknownItems(int64_t) override {}
  void AddForgottenUsers(int64_t) override {}
  void AddRecommendations(int64_t) override {}
  void AddAborts(int64_t) override {}
  void AddRestored(int64_t) override {}
  void AddSnapshots(int64_t) override {}
  void SetLagSeconds(double) override {}
  void SetRestoring(int64_t, double) override {}
  void AddLists(int64_t, int64_t) override {}
  void ObserveCommit(double) override {}
  void AddCommitPart(CommitPart, double) override {}
  void SetRebalances(int64_t) override {}
  void SetDisk(const DiskStats&) override {}
  void AddDeadLetter(std::string_view) override {}
  void ObserveLatency(double) override {}
  void SetLag(std::string_view, int32_t, int64_t) override {}
  void DropLag(std::string_view, int32_t) override {}
  void SetAssigned(int64_t) override {}
  void SetSnapshotAge(double) override {}

 private:
  struct Began {
    double thread;
    double process;
    SteadyClock::time_point clock;
  };
  ReplayCost& cost_;
  std::optional<Began> began_;
  double last_ = 0;
};

}  // namespace

double ThreadCpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Result<ReplayCost> RunReplay(const ReplayOptions& options, const ServingModel& serving) {
  Config config;
  config.state.directory = options.state_directory.string();
  config.state.hot_cache_bytes = options.hot_cache_bytes;
  config.recommend.top_k = options.top_k;
  config.processing.emit = options.emit;
  ASSIGN_OR_RETURN(const auto states, OpenStateDirectory(config, serving.model->config.exact_history()));
  ASSIGN_OR_RETURN(const auto commit_log, CommitLog::Open(options.state_directory / "commits.json", options.inputs));
  ASSIGN_OR_RETURN(const auto decoder, MakeDecoder(config.source.decoder));
  ASSIGN_OR_RETURN(const auto output, OpenOutputFile(options.output.string(), *commit_log));
  ASSIGN_OR_RETURN(const auto nowhere, OpenOutputFile("", *commit_log));
  const auto sink = MakeFileSink(output, nowhere, *commit_log);
  LogFileOptions files;
  files.paths = options.inputs;
  files.partitions = config.state.partitions;
  const auto source = MakeLogFileSource(std::move(files), *commit_log);

  ReplayCost cost;
  StageCosts stages(cost);
  PipelineOptions pipeline_options = PipelineOptionsFor(config, 1);
  pipeline_options.file_partitions = config.state.partitions;
  Pipeline pipeline(std::move(pipeline_options), Borrowed(serving), *decoder, *source, *sink, *states, &stages);
  RETURN_IF_ERROR(pipeline.Open());
  for (PollState state = PollState::kMore; state != PollState::kEnd;) {
    ASSIGN_OR_RETURN(state, pipeline.Step(std::chrono::milliseconds(0)));
  }
  stages.Finish();
  RETURN_IF_ERROR(pipeline.Close());
  cost.counts = pipeline.counts();
  if (!options.output.empty()) cost.output_bytes = static_cast<int64_t>(std::filesystem::file_size(options.output));
  return cost;
}

}  // namespace freshet::bench
