// One worker's pipeline: it takes micro-batches of its partitions through all stages and commits them.
//
// Guarantees: outputs are committed before state, state before the input's positions (design: "Exactly once, and
// recovery"). Batch size, number of workers and restarts change no state, and no score beyond float tolerance.
// Threads: one worker's. The source's listener callbacks arrive on it, inside Step().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/result.h"
#include "ingest/decoder.h"
#include "ingest/event_source.h"
#include "ingest/record_sink.h"
#include "pipeline/config.h"
#include "pipeline/live_queries.h"
#include "pipeline/metrics.h"
#include "pipeline/serving_model.h"
#include "state/store.h"

namespace freshet {

class SnapshotRestore;

// Where an event came from, as recommendations show it.
struct Origin {
  std::string topic;
  PartitionId partition{};
  Offset offset{};
};

// Where state is saved to and restored from; absent parts: no snapshots.
struct SnapshotOptions {
  std::chrono::milliseconds interval{600'000};
  std::string whose;            // the application and its input, as a watermark names them
  std::set<PartitionId> empty;  // partitions whose snapshot has no record when the process starts
  // The snapshot of a partition, from its beginning to its end now. kUnavailable: ask again.
  std::function<Result<std::unique_ptr<EventSource>>(PartitionId)> read;
  // A snapshot that is used in its stead, because somebody named it; null: there is none of the partition.
  std::function<Result<std::unique_ptr<EventSource>>(PartitionId)> file;
  // About how long restores, all of them together, may keep the other partitions waiting in a poll. A source that
  // announces a partition only once needs for ever.
  std::chrono::milliseconds slice{100};
};

struct PipelineOptions {
  std::string topic;        // of the source, for the lag metric
  int file_partitions = 0;  // > 0: the source is log files, spread by user over this many partitions
  Emit emit = Emit::kEvery;
  int top_k = 100;
  bool exclude_seen = true;
  bool include_user_vector = false;
  bool keep_user_vectors = false;  // for live queries: the newest vector stays with a hot user
  size_t max_batch = 256;
  std::chrono::milliseconds commit_interval{100};
  size_t hot_cache_bytes = size_t{1} << 30;  // this worker's share
  SnapshotOptions snapshots;
  // Of a user's newest event, told by its stored offset; for answers that no event of the running batch caused.
  std::function<Origin(PartitionId, Offset)> origin;
};

// What went through, since the start of this process.
struct PipelineCounts {
  int64_t events = 0;         // accepted: changed state
  int64_t unknown_items = 0;  // of the events: their item is not in the model's vocabulary
  int64_t repeats = 0;        // dropped: their offset was applied before
  int64_t duplicates = 0;     // dropped: the user's last RecentIds::kKept events hold their event_id
  int64_t forgotten = 0;      // users of whom something was known, forgotten by a tombstone of the input
  int64_t recommendations = 0;
  int64_t dead_letters = 0;
  // Events of users whose newest list is still in memory, and those of them whose item is in it.
  int64_t lists = 0;
  int64_t list_hits = 0;
  int64_t silent = 0;  // changed state without an answer: they were answered before a crash
  int64_t aborts = 0;  // transactions that came to nothing; what they held is not counted above
};

class Pipeline : public AssignmentListener {
 public:
  // Everything borrowed outlives the pipeline. `metrics` may be null.
  Pipeline(PipelineOptions options, std::shared_ptr<const ServingModel> serving, EventDecoder& decoder,
           EventSource& source, RecordSink& sink, StateDirectory& states, WorkerMetrics* metrics);
  ~Pipeline() override;

  Status Open();

  // One micro-batch: waits at most `wait` for input. kEnd: everything was read and committed.
  Result<PollState> Step(std::chrono::milliseconds wait);

  // Commits what is pending, gives the partitions back, closes the source.
  Status Close();

  // With Emit::kFinal, after kEnd: recommendations for the next max_batch users of the open partitions. kEnd: all have
  // theirs.
  Result<PollState> EmitFinal();

  // Whether everything that went through is committed.
  bool BetweenCommits() const;
  // The model of the answers from now on. Users' keys/values are made anew from their tokens, each user's when they are
  // needed next. REQUIRES: BetweenCommits(), so that no transaction holds answers of two models.
  void Serve(std::shared_ptr<const ServingModel> serving);
  const ServingModel& serving() const { return *serving_; }

  // From live state, an answer to each; this worker's thread.
  std::vector<LiveAnswer> Answer(std::span<const LiveQuery* const> queries);

  const PipelineCounts& counts() const { return counts_; }

  // Everything was read and committed: the last Step(), or EmitFinal() after it, gave kEnd.
  bool Finished() const { return finished_; }

  // Why not every assigned partition is answered for; null where all are.
  const char* Missing() const;

  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override;
  Status OnRevoked(PartitionId partition, bool lost) override;
  Status OnRebuild(const Assignment& assignment, bool same_log) override;

 private:
  struct Partition;
  struct Work;  // one event on its way
  struct Buffers;

  // The stages of Step(), in order.
  Result<PollState> Poll(std::chrono::milliseconds wait);
  void Decode();
  Status Load();
  void Append();
  bool Take(Work& work, bool attend);
  bool Forget(Work& work, std::span<const std::pair<const UserState*, uint32_t>> before);
  void WantAnswer(Work& work);
  void Attend();
  void Rank();
  void JudgeLists();
  void Encode();
  Status Publish();
  Status MaybeCommit(bool ended);

  bool HotCacheIsPinned() const;
  Status Commit(bool snapshots);  // with the part of the snapshots that is due
  Status Commit(std::span<const PartitionPosition> positions);
  Status ApplyStates();
  Status PublishSnapshots();
  Result<std::unique_ptr<UserStateStore>> OpenStore(const Assignment& assignment);
  struct Restoring;  // the store of a partition on its way here
  Result<bool> MakeReady(const Assignment& assignment, Restoring& restoring);
  Status Empty(PartitionId partition, Restoring& restoring);
  bool MayBeOutdated(const UserStateStore& store, const Assignment& assignment) const;
  Result<bool> FindWatermark(PartitionId partition, Restoring& restoring);
  bool IsOutdated(const Restoring& restoring, const Assignment& assignment) const;
  std::chrono::milliseconds Slice() const;
  std::string NameOf(PartitionId partition) const;
  Result<bool> Restore(PartitionId partition, Restoring& restoring);
  Result<std::unique_ptr<SnapshotRestore>> BeginRestore(PartitionId partition, UserStateStore& store);
  Result<bool> EmitFinal(Partition& partition);
  Status OrRewind(const Status& status);
  Status Rewind();
  void BeginSnapshot(Partition& partition);
  void Park(PartitionId partition);
  Partition* PartitionOf(RawRecord& record, std::string_view user_id);
  void AddDeadLetter(const RawRecord& record, const DecodeFailure& failure);
  void ScheduleMissing(UserState& user);
  void ShareHotCache();
  void ReportStage(Stage stage);
  void ReportStage(Stage stage, int64_t events);
  void ReportLatencies();
  void ReportCommitted();
  void ReportCommitPart(CommitPart part);
  void ReportCommitTime();
  void ReportGauges();
  double RestoreRemaining() const;
  StoreStats HotCache() const;
  DiskStats Disk() const;
  void CountStore(Partition& partition);
  double SnapshotAge(std::chrono::steady_clock::time_point now);
  void BringUpToDate(std::span<UserState* const> users);
  void AnswerFromState(PartitionId partition, std::span<UserState* const> users, int top_k,
                       const RecommendationEncoder& encoder, std::vector<std::string>& answers);
  std::string RankItems(PartitionId partition, UserState& user, std::span<const std::string> items);
  struct Found;  // a user of a query
  Result<Found> Find(const std::string& user_id);
  struct Asked;  // a recommendation of a query
  Asked Ask(const LiveQuery& query, PartitionId partition, UserState& user);
  Recommendation FromState(const Origin& origin, const UserState& user) const;

  const PipelineOptions options_;
  std::set<PartitionId> empty_snapshots_;  // of the options, until their stores have that durably
  std::shared_ptr<const ServingModel> serving_;
  EventDecoder& decoder_;
  EventSource& source_;
  RecordSink& sink_;
  StateDirectory& states_;
  WorkerMetrics* const metrics_;

  std::map<PartitionId, std::unique_ptr<Partition>> partitions_;
  // Partitions that just went, as committed: most come back with the end of the rebalance, with their users still hot.
  std::map<PartitionId, std::unique_ptr<Partition>> parked_;
  std::map<PartitionId, std::unique_ptr<Restoring>> restoring_;
  std::set<PartitionId> rebuilding_;  // whose state is to come from the input alone
  bool rewind_due_ = false;           // outputs since the last commit will not be seen
  int aborts_in_a_row_ = 0;
  std::unique_ptr<Buffers> buffers_;
  std::unique_ptr<Engine::Scratch> engine_scratch_;
  std::unique_ptr<Ranker::Scratch> ranker_scratch_;
  struct {
    PartitionId partition{};
    std::optional<std::string> user;
  } final_;  // whom EmitFinal() answered last
  bool finished_ = false;
  PipelineCounts counts_;
  PipelineCounts committed_;  // counts_ at the last commit
  std::chrono::steady_clock::time_point last_commit_;
  std::chrono::steady_clock::time_point stage_began_;
  std::chrono::steady_clock::time_point part_began_;  // of a commit
  std::chrono::steady_clock::time_point next_gauges_;
  StoreStats closed_;  // hits, misses and evictions of partitions that went
  int64_t closed_stall_us_ = 0;
};

}  // namespace freshet
