// What a pipeline tells its instruments.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/clock.h"
#include "pipeline/pipeline_parts.h"

namespace freshet {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kGaugeInterval{1};

}  // namespace

// The time since the last call belongs to `stage`, which the running batch went through.
void Pipeline::ReportStage(Stage stage) {
  if (metrics_ == nullptr) return;
  if (!buffers_->batch.records.empty()) return ReportStage(stage, std::ssize(buffers_->batch.records));
  stage_began_ = SteadyClock::now();
}

void Pipeline::ReportStage(Stage stage, int64_t events) {
  const SteadyClock::time_point now = SteadyClock::now();
  const std::chrono::duration<double> took = now - std::exchange(stage_began_, now);
  metrics_->ObserveStage(stage, took.count(), events);
}

// Of the events whose answers the sink has just made final.
void Pipeline::ReportLatencies() {
  std::vector<int64_t>& times_ms = buffers_->uncommitted_event_times_ms;
  if (times_ms.empty()) return;
  const int64_t now_ms = WallClockMs();
  for (const int64_t time_ms : times_ms) metrics_->ObserveLatency(static_cast<double>(now_ms - time_ms) / 1000);
  times_ms.clear();
}

// What the commit that has just succeeded made count; committed_ is the one before.
void Pipeline::ReportCommitted() {
  // Who they were is not for a log.
  if (const int64_t users = counts_.forgotten - committed_.forgotten; users > 0) spdlog::info("forgot {} users", users);
  if (metrics_ == nullptr) return;
  ReportStage(Stage::kCommit, buffers_->uncommitted_records);
  for (const std::string_view code : buffers_->uncommitted_dead_letters) metrics_->AddDeadLetter(code);
  metrics_->AddSnapshots(buffers_->uncommitted_snapshots);
  metrics_->AddEvents(counts_.events - committed_.events);
  metrics_->AddRepeats(counts_.repeats - committed_.repeats);
  metrics_->AddDuplicates(counts_.duplicates - committed_.duplicates);
  metrics_->AddUnknownItems(counts_.unknown_items - committed_.unknown_items);
  metrics_->AddLists(counts_.lists - committed_.lists, counts_.list_hits - committed_.list_hits);
  metrics_->AddForgottenUsers(counts_.forgotten - committed_.forgotten);
  metrics_->AddRecommendations(counts_.recommendations - committed_.recommendations);
}

// The time since the last call, or the commit's beginning, belongs to `part`.
void Pipeline::ReportCommitPart(CommitPart part) {
  if (metrics_ == nullptr) return;
  const SteadyClock::time_point now = SteadyClock::now();
  const std::chrono::duration<double> took = now - std::exchange(part_began_, now);
  metrics_->AddCommitPart(part, took.count());
}

// Of a commit that has just ended, one way or another.
void Pipeline::ReportCommitTime() {
  if (metrics_ == nullptr) return;
  const std::chrono::duration<double> took = SteadyClock::now() - last_commit_;
  metrics_->ObserveCommit(took.count());
}

// About once a second, whatever becomes of the commits: a scrape needs no finer grain.
void Pipeline::ReportGauges() {
  if (metrics_ == nullptr) return;
  metrics_->SetRestoring(std::ssize(restoring_), RestoreRemaining());
  const SteadyClock::time_point now = SteadyClock::now();
  if (now < next_gauges_) return;
  next_gauges_ = now + kGaugeInterval;
  const StoreStats cache = HotCache();
  metrics_->SetHotCache(cache.hot_users, cache.hot_bytes, cache.hits, cache.misses, cache.evictions);
  metrics_->SetDisk(Disk());
  metrics_->SetRebalances(source_.Rebalances());
  metrics_->SetAssigned(std::ssize(partitions_));
  metrics_->SetSnapshotAge(SnapshotAge(now));
  int64_t lag_ms = 0;
  const int64_t now_ms = WallClockMs();
  for (const auto& [id, records] : source_.Lag()) {
    metrics_->SetLag(options_.topic, Raw(id), records);
    const auto partition = partitions_.find(id);
    if (records == 0 || partition == partitions_.end()) continue;
    lag_ms = std::max(lag_ms, now_ms - partition->second->last_event_ms.value_or(now_ms));
  }
  metrics_->SetLagSeconds(static_cast<double>(lag_ms) / 1000);
}

// Seconds since the last watermark of the partition that waits for its next one the longest.
double Pipeline::SnapshotAge(SteadyClock::time_point now) {
  std::chrono::duration<double> oldest{0};
  for (auto& [id, partition] : partitions_) {
    if (!partition->snapshot) continue;
    if (partition->store->Position() == partition->store->SnapshotPosition()) partition->behind_since = now;
    oldest = std::max<std::chrono::duration<double>>(oldest, now - partition->behind_since);
  }
  return oldest.count();
}

// Users and bytes of the open partitions; hits, misses and evictions since the start, which never shrink.
StoreStats Pipeline::HotCache() const {
  StoreStats sum = closed_;
  for (const auto& [id, partition] : partitions_) {
    const StoreStats stats = partition->store->Stats();
    sum.hot_users += stats.hot_users;
    sum.hot_bytes += stats.hot_bytes;
    sum.hits += stats.hits - partition->counted.hits;
    sum.misses += stats.misses - partition->counted.misses;
    sum.evictions += stats.evictions - partition->counted.evictions;
  }
  return sum;
}

// What is left to read of the snapshot of which the most is left, 0 to 1; 0 where none is read.
double Pipeline::RestoreRemaining() const {
  double remaining = 0;
  for (const auto& [id, restoring] : restoring_) {
    const double done = restoring->restore == nullptr ? 0 : restoring->restore->Progress();
    remaining = std::max(remaining, 1 - done);
  }
  return remaining;
}

// Sums over the open partitions, and those that are being restored; stalls of the former and of those that went.
DiskStats Pipeline::Disk() const {
  DiskStats sum;
  const auto add = [&](const DiskStats& stats) {
    sum.table_bytes += stats.table_bytes;
    sum.memtable_bytes += stats.memtable_bytes;
    sum.pending_compaction_bytes += stats.pending_compaction_bytes;
    sum.stalled += stats.stalled;
    sum.block_cache_bytes = std::max(sum.block_cache_bytes, stats.block_cache_bytes);  // they share it
  };
  sum.stall_us = closed_stall_us_;
  for (const auto& [id, partition] : partitions_) {
    const DiskStats stats = partition->store->Disk();
    add(stats);
    sum.stall_us += stats.stall_us - partition->counted_stall_us;
  }
  for (const auto& [id, restoring] : restoring_) {
    if (restoring->store != nullptr) add(restoring->store->Disk());
  }
  return sum;
}

// Of a partition that goes, since it came.
void Pipeline::CountStore(Partition& partition) {
  const StoreStats stats = partition.store->Stats();
  closed_.hits += stats.hits - partition.counted.hits;
  closed_.misses += stats.misses - partition.counted.misses;
  closed_.evictions += stats.evictions - partition.counted.evictions;
  partition.counted = stats;
  const int64_t stall_us = partition.store->Disk().stall_us;
  closed_stall_us_ += stall_us - std::exchange(partition.counted_stall_us, stall_us);
}

}  // namespace freshet
