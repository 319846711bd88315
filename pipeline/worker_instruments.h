// What one worker counts. Internal to pipeline/metrics.cc.
//
// Threads: the worker writes, others read; what grows (reasons, lags) is walked by others under `growth`.
#pragma once

#include <prometheus/client_metric.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

#include "pipeline/metrics.h"

namespace freshet {

inline constexpr std::array kStageBounds = {1e-6,   2.5e-6, 5e-6, 1e-5,   2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3,
                                            2.5e-3, 5e-3,   1e-2, 2.5e-2, 5e-2,   0.1,  0.25, 0.5,    1.0};
inline constexpr std::array kLatencyBounds = {1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25,
                                              0.5,  1.0,    2.5,  5.0,  10.0,   30.0, 60.0};

// A number with one writer: a load and a store instead of a locked read-modify-write.
template <typename T>
class Cell {
 public:
  void Add(T amount) { Set(Get() + amount); }
  void Set(T value) { value_.store(value, std::memory_order_relaxed); }
  T Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<T> value_{0};
};

template <const auto& kBounds>
struct Histogram {
  std::array<Cell<uint64_t>, kBounds.size() + 1> counts;  // by bucket, not cumulative; the last is beyond all bounds
  Cell<double> sum;

  void Observe(double value) {
    const double seconds = value > 0 ? value : 0;  // also takes NaN to 0
    counts[static_cast<size_t>(std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin())].Add(1);
    sum.Add(seconds);
  }

  void AddTo(prometheus::ClientMetric::Histogram& total) const {
    total.bucket.resize(kBounds.size());
    uint64_t cumulative = 0;
    for (size_t i = 0; i < kBounds.size(); ++i) {
      cumulative += counts[i].Get();
      total.bucket[i].upper_bound = kBounds[i];
      total.bucket[i].cumulative_count += cumulative;
    }
    total.sample_count += cumulative + counts.back().Get();
    total.sample_sum += sum.Get();
  }
};

struct LagCell {
  std::string topic;
  int32_t partition;
  Cell<int64_t> records;
  Cell<bool> assigned;
};

struct ReasonCell {
  std::string code;
  Cell<int64_t> count;
};

struct StageCells {
  Histogram<kStageBounds> seconds;
  Cell<int64_t> events;
};

class alignas(64) WorkerInstruments : public WorkerMetrics {
 public:
  void AddEvents(int64_t count) override { events.Add(count); }
  void AddRepeats(int64_t count) override { repeats.Add(count); }
  void AddDuplicates(int64_t count) override { duplicates.Add(count); }
  void AddUnknownItems(int64_t count) override { unknown_items.Add(count); }
  void AddForgottenUsers(int64_t count) override { forgotten_users.Add(count); }
  void AddLists(int64_t count, int64_t hits) override {
    lists.Add(count);
    list_hits.Add(hits);
  }
  void AddAborts(int64_t count) override { aborts.Add(count); }
  void AddRecommendations(int64_t count) override { recommendations.Add(count); }
  void AddDeadLetter(std::string_view code) override { Reason(code).count.Add(1); }
  void ObserveStage(Stage stage, double seconds, int64_t stage_events) override {
    StageCells& cells = stages[static_cast<size_t>(stage)];
    cells.seconds.Observe(seconds);
    cells.events.Add(stage_events);
  }
  void ObserveLatency(double seconds) override { latency.Observe(seconds); }
  void ObserveCommit(double seconds) override { commits.Observe(seconds); }
  void AddCommitPart(CommitPart part, double seconds) override { commit_parts[static_cast<size_t>(part)].Add(seconds); }
  void SetHotCache(int64_t users, int64_t bytes, int64_t hits, int64_t misses, int64_t evictions) override {
    cache_users.Set(users);
    cache_bytes.Set(bytes);
    cache_hits.Set(hits);
    cache_misses.Set(misses);
    cache_evictions.Set(evictions);
  }
  void SetLag(std::string_view topic, int32_t partition, int64_t records) override {
    LagCell* cell = FindLag(topic, partition);
    if (cell == nullptr) {
      const std::lock_guard lock(growth);
      cell = &lags.emplace_back();
      cell->topic = topic;
      cell->partition = partition;
    }
    cell->records.Set(records);
    cell->assigned.Set(true);
  }
  void DropLag(std::string_view topic, int32_t partition) override {
    if (LagCell* const cell = FindLag(topic, partition)) cell->assigned.Set(false);
  }
  void SetLagSeconds(double seconds) override { lag_seconds.Set(seconds); }
  void SetRestoring(int64_t partitions, double remaining) override {
    restoring.Set(partitions);
    restore_remaining.Set(remaining);
  }
  void AddRestored(int64_t records) override { restored.Add(records); }
  void AddSnapshots(int64_t records) override { snapshots.Add(records); }
  void SetAssigned(int64_t partitions) override { assigned.Set(partitions); }
  void SetSnapshotAge(double seconds) override { snapshot_age.Set(seconds); }
  void SetRebalances(int64_t count) override { rebalances.Set(count); }
  void SetDisk(const DiskStats& disk) override {
    table_bytes.Set(disk.table_bytes);
    memtable_bytes.Set(disk.memtable_bytes);
    pending_compaction_bytes.Set(disk.pending_compaction_bytes);
    stalled.Set(disk.stalled);
    stall_us.Set(disk.stall_us);
    block_cache_bytes.Set(disk.block_cache_bytes);
  }

  Cell<int64_t> events, repeats, duplicates, unknown_items, forgotten_users, recommendations, aborts, restored,
      snapshots, restoring, assigned, rebalances, lists, list_hits;
  Cell<int64_t> cache_users, cache_bytes, cache_hits, cache_misses, cache_evictions;
  Cell<int64_t> table_bytes, memtable_bytes, pending_compaction_bytes, stalled, stall_us, block_cache_bytes;
  Cell<double> snapshot_age, lag_seconds, restore_remaining;
  std::array<StageCells, kStageNames.size()> stages;
  Histogram<kLatencyBounds> latency, commits;
  std::array<Cell<double>, kCommitPartNames.size()> commit_parts;
  // The worker alone adds cells, under `growth`, and looks them up without it; a scrape walks them under it.
  std::mutex growth;
  std::deque<ReasonCell> reasons;
  std::deque<LagCell> lags;

 private:
  ReasonCell& Reason(std::string_view code) {
    const auto found = std::ranges::find(reasons, code, &ReasonCell::code);
    if (found != reasons.end()) return *found;
    if (reasons.size() > kMaxReasons) return reasons.back();
    const std::lock_guard lock(growth);
    const bool full = reasons.size() == kMaxReasons;
    ReasonCell& cell = reasons.emplace_back();
    cell.code = full ? "other" : code;
    return cell;
  }
  LagCell* FindLag(std::string_view topic, int32_t partition) {
    const auto found = std::ranges::find_if(
        lags, [&](const LagCell& cell) { return cell.partition == partition && cell.topic == topic; });
    return found == lags.end() ? nullptr : &*found;
  }
};

}  // namespace freshet
