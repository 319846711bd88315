// When a commit is due, and its order: outputs, state, the input's positions.
#include <algorithm>
#include <span>
#include <utility>

#include "core/fail_point.h"
#include "pipeline/pipeline_parts.h"

namespace freshet {
namespace {

using SteadyClock = std::chrono::steady_clock;

// What waits for a commit stays bounded, whatever the commit interval: it pins its users and its outputs in memory.
constexpr int64_t kMaxUncommittedEvents = 8192;
constexpr size_t kMaxUncommittedBytes = size_t{32} << 20;

}  // namespace

Status Pipeline::MaybeCommit(bool ended) {
  if (rewind_due_) return {};
  const bool due = SteadyClock::now() - last_commit_ >= options_.commit_interval;
  const bool full =
      buffers_->uncommitted_bytes >= kMaxUncommittedBytes || buffers_->uncommitted_events >= kMaxUncommittedEvents;
  if (!due && !full && !ended && !HotCacheIsPinned()) return {};
  return Commit(true);
}

// Whether users that wait for a commit, which cannot be evicted, fill half of the hot cache.
bool Pipeline::HotCacheIsPinned() const {
  const size_t half = options_.hot_cache_bytes / 2;
  const auto events = static_cast<size_t>(buffers_->uncommitted_events);
  const size_t most_for_user = serving_->engine->CacheBytes(serving_->model->config.window);
  if (events * most_for_user < half) return false;  // cannot be; asking the stores is dearer
  size_t unsaved = 0;
  for (const auto& [id, partition] : partitions_)
    unsaved += static_cast<size_t>(partition->store->Stats().unsaved_bytes);
  return unsaved >= half;
}

Status Pipeline::Commit(bool snapshots) {
  stage_began_ = part_began_ = SteadyClock::now();
  if (snapshots) RETURN_IF_ERROR(OrRewind(PublishSnapshots()));
  if (rewind_due_) return {};
  std::vector<PartitionPosition> positions;
  bool anything = false;
  for (const auto& [id, partition] : partitions_) {
    if (partition->next == partition->committed && !partition->snapshot_due) continue;
    anything = true;
    // During a silent replay the outputs' position stays where it was: it must never go back. That of a snapshot is
    // always there: it is what tells the brokers that this member may still write.
    if (partition->next > partition->emit_from || partition->snapshot_due) {
      positions.push_back({id, std::max(partition->next, partition->emit_from)});
    }
  }
  last_commit_ = stage_began_;
  if (!anything) return {};
  const Status committed = Commit(positions);
  ReportCommitTime();
  return committed;
}

Status Pipeline::Commit(std::span<const PartitionPosition> positions) {
  if (Mutated("state_first")) RETURN_IF_ERROR(ApplyStates());
  const Status outputs = OrRewind(sink_.Commit(positions));  // I/O: outputs and dead letters
  ReportCommitPart(CommitPart::kOutputs);
  RETURN_IF_ERROR(outputs);
  if (rewind_due_) return {};
  ReportLatencies();
  RETURN_IF_ERROR(ApplyStates());
  ReportCommitPart(CommitPart::kState);
  RETURN_IF_ERROR(source_.Commit(positions));  // I/O
  ReportCommitPart(CommitPart::kPositions);
  aborts_in_a_row_ = 0;
  ReportCommitted();
  committed_ = counts_;
  buffers_->NothingUncommitted();
  return {};
}

// I/O: the part of the snapshots that is due, as the stores are: without what this commit is about to make durable.
Status Pipeline::PublishSnapshots() {
  std::vector<SnapshotRecord> records;
  std::vector<OutputRecord> outputs;
  for (auto& [id, partition] : partitions_) {
    // What another member wrote while the partition was its own is newer than a store that has not caught up.
    if (!partition->snapshot || partition->committed < partition->emit_from) continue;
    records.clear();
    outputs.clear();
    RETURN_IF_ERROR(partition->snapshot->Next(*partition->store, stage_began_, records));
    if (records.empty()) continue;
    for (const SnapshotRecord& record : records) {
      const std::string_view value = record.value.empty() ? std::string_view() : record.value;
      outputs.push_back({.stream = Stream::kSnapshots, .key = record.key, .value = value, .partition = id});
    }
    partition->snapshot_due = true;
    buffers_->uncommitted_events += std::ssize(outputs);
    buffers_->uncommitted_snapshots += std::ssize(outputs);
    RETURN_IF_ERROR(FailPoint("before_snapshot"));
    RETURN_IF_ERROR(sink_.Publish(outputs));
    RETURN_IF_ERROR(FailPoint("after_snapshot"));
  }
  return {};
}

// I/O: a WriteBatch for each partition, of its users and its position.
Status Pipeline::ApplyStates() {
  RETURN_IF_ERROR(OrRewind(FailPoint("before_write_batch")));
  for (auto& [id, partition] : partitions_) {
    if (rewind_due_ || (partition->next == partition->committed && !partition->snapshot_due)) continue;
    RETURN_IF_ERROR(partition->store->Apply(partition->next));
    partition->committed = partition->next;
    empty_snapshots_.erase(id);
    if (std::exchange(partition->snapshot_due, false) && partition->snapshot->Committed()) {
      partition->behind_since = stage_began_;
    }
  }
  return OrRewind(FailPoint("after_write_batch"));
}

}  // namespace freshet
