// What /metrics shows. Workers add to their own instruments once a micro-batch; a scrape reads atomics and never waits
// for a worker.
//
// Threads: each WorkerMetrics belongs to one worker, which is the only one that writes; the rest of Metrics any thread.
// Instruments are single-writer atomics rather than prometheus-cpp's own, whose histogram takes a mutex; prometheus-cpp
// writes the text. The only lock of a worker is where it meets a dead letter's code or a partition for the first time.
// Names, meanings and buckets: docs/metrics.md (a test holds it against this file's .cc).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "state/store.h"

namespace freshet {

enum class Stage { kPoll, kDecode, kLoad, kAttention, kRank, kEncode, kPublish, kCommit };
inline constexpr std::array<std::string_view, 8> kStageNames = {"poll", "decode", "load",    "attention",
                                                                "rank", "encode", "publish", "commit"};

// A commit's: outputs with the input's positions, as far as one transaction takes both, and the snapshots before them;
// state; positions.
enum class CommitPart { kOutputs, kState, kPositions };
inline constexpr std::array<std::string_view, 3> kCommitPartNames = {"outputs", "state", "positions"};

class WorkerMetrics {
 public:
  // Dead letters of more codes than this count under the reason "other".
  static constexpr size_t kMaxReasons = 32;

  virtual ~WorkerMetrics() = default;

  virtual void AddEvents(int64_t count) = 0;               // freshet_events_total: accepted
  virtual void AddRepeats(int64_t count) = 0;              // freshet_repeated_events_total: dropped by applied_offset
  virtual void AddDuplicates(int64_t count) = 0;           // freshet_duplicates_total: dropped by event_id
  virtual void AddUnknownItems(int64_t count) = 0;         // freshet_unknown_items_total
  virtual void AddForgottenUsers(int64_t count) = 0;       // freshet_forgotten_users_total
  virtual void AddLists(int64_t count, int64_t hits) = 0;  // freshet_lists_total, freshet_list_hits_total
  virtual void AddRecommendations(int64_t count) = 0;      // freshet_recommendations_total
  virtual void AddAborts(int64_t count) = 0;               // freshet_transaction_aborts_total
  virtual void AddDeadLetter(std::string_view code) = 0;   // freshet_dead_letters_total{reason}
  // A micro-batch's time in a stage: freshet_stage_seconds{stage}, and its events: freshet_stage_events_total{stage}.
  virtual void ObserveStage(Stage stage, double seconds, int64_t events) = 0;
  // freshet_event_latency_seconds: event time to committed, where the clock allows; negative counts as 0.
  virtual void ObserveLatency(double seconds) = 0;
  virtual void ObserveCommit(double seconds) = 0;                   // freshet_commit_seconds
  virtual void AddCommitPart(CommitPart part, double seconds) = 0;  // freshet_commit_part_seconds_total{part}
  // From the worker's last look: users and bytes held now; hits, misses and evictions since the start.
  virtual void SetHotCache(int64_t users, int64_t bytes, int64_t hits, int64_t misses, int64_t evictions) = 0;
  // freshet_consumer_lag{topic,partition}
  virtual void SetLag(std::string_view topic, int32_t partition, int64_t records) = 0;
  virtual void DropLag(std::string_view topic, int32_t partition) = 0;  // the partition left this instance
  virtual void SetLagSeconds(double seconds) = 0;                       // freshet_consumer_lag_seconds
  // freshet_restoring_partitions, freshet_restore_remaining_ratio
  virtual void SetRestoring(int64_t partitions, double remaining) = 0;
  virtual void AddRestored(int64_t records) = 0;     // freshet_restored_records_total
  virtual void AddSnapshots(int64_t records) = 0;    // freshet_snapshot_records_total
  virtual void SetAssigned(int64_t partitions) = 0;  // freshet_assigned_partitions
  virtual void SetSnapshotAge(double seconds) = 0;   // freshet_snapshot_watermark_age_seconds
  virtual void SetRebalances(int64_t count) = 0;     // freshet_rebalances_total, since the start
  virtual void SetDisk(const DiskStats& disk) = 0;   // freshet_rocksdb_*
};

// As recommendations name it.
struct ModelLabels {
  std::string name;
  std::string version;
  double written_s = 0;  // when its weights were written, since the epoch
  bool operator==(const ModelLabels&) const = default;
};

// What /v1/status shows of the workers, all of them together, as of their last look (about a second ago).
struct WorkersStatus {
  struct Lag {
    std::string topic;
    int32_t partition = 0;
    int64_t records = 0;  // not yet processed
  };
  std::vector<Lag> lags;  // of the assigned partitions, ascending
  int64_t assigned = 0;   // partitions, without those that are being restored
  int64_t restoring = 0;  // partitions
  int64_t restored_records = 0;
  int64_t hot_users = 0;
  int64_t hot_bytes = 0;
  int64_t hot_hits = 0;
  int64_t hot_misses = 0;
  int64_t hot_evictions = 0;
};

class Metrics {
 public:
  // `freshet_version`: label of freshet_build_info; `model`: labels of freshet_model_info.
  static std::unique_ptr<Metrics> Make(std::string_view freshet_version, ModelLabels model);
  virtual ~Metrics() = default;

  // Lives as long as the Metrics. Ask once and keep it: this takes a lock.
  virtual WorkerMetrics& Worker(int worker) = 0;

  virtual void AddHttpResponse(int status) = 0;  // freshet_http_responses_total{status}
  virtual void SetReady(bool ready) = 0;         // freshet_ready
  virtual void AddRemovedPartition() = 0;        // freshet_removed_partitions_total

  // The model that every worker serves from now on: freshet_model_info, freshet_model_written_timestamp_seconds,
  // freshet_model_swaps_total and freshet_model_last_swap_timestamp_seconds.
  virtual void SwapModel(ModelLabels model) = 0;
  virtual void AddRefusedModel() = 0;  // freshet_model_refusals_total
  virtual ModelLabels Model() const = 0;

  virtual WorkersStatus Workers() const = 0;

  // The text exposition format 0.0.4. Series of all workers are summed; of an age the highest is shown.
  virtual std::string Render() = 0;
};

}  // namespace freshet
