// Partitions that come, go, are restored, and are read again after a transaction that came to nothing.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/fail_point.h"
#include "pipeline/pipeline_parts.h"

namespace freshet {

Result<std::optional<Offset>> Pipeline::OnAssigned(const Assignment& assignment) {
  RETURN_IF_ERROR(FailPoint("on_assigned"));
  auto partition = std::make_unique<Partition>();
  partition->id = assignment.partition;
  Park(assignment.partition);  // announced again before it was read
  ASSIGN_OR_RETURN(partition->store, OpenStore(assignment));
  if (options_.snapshots.read) {
    // The topic is new, or was made anew: it needs everybody.
    if (empty_snapshots_.erase(assignment.partition) > 0) partition->store->SetSnapshotPosition(Offset{0});
    partition->snapshot.emplace(options_.snapshots.whose, options_.snapshots.interval,
                                std::chrono::steady_clock::now());
  }
  const std::optional<Offset> position = partition->store->Position();
  partition->begin = position.value_or(Offset{0});
  // Without a position the source alone knows where reading begins: none is committed before it told one.
  partition->next = partition->committed = partition->begin;
  partition->emit_from = assignment.committed.value_or(Offset{0});
  partitions_[assignment.partition] = std::move(partition);
  ShareHotCache();
  return position;
}

// The store of a partition: as it was left here, else from a snapshot, else empty. kUnavailable while it is restored.
Result<std::unique_ptr<UserStateStore>> Pipeline::OpenStore(const Assignment& assignment) {
  const PartitionId partition = assignment.partition;
  if (auto parked = parked_.extract(partition)) return std::move(parked.mapped());
  auto& restoring = restoring_[partition];
  if (restoring == nullptr) restoring = std::make_unique<Restoring>();
  if (restoring->store == nullptr) {
    auto store = OpenLocal(assignment);
    if (!store.ok()) {
      restoring_.erase(partition);
      return store;
    }
    if (rebuilding_.erase(partition) > 0 || (*store)->Position()) {
      restoring_.erase(partition);
      return store;
    }
    restoring->store = std::move(store).value();
  }
  const Result<bool> restored = Restore(partition, *restoring);
  if (restored.ok() && !*restored) return Error(ErrorCode::kUnavailable, "its state is being restored");
  const bool begun = restoring->restore != nullptr;
  if (!begun && !restored.ok() && restored.error().retriable()) return restored.error();
  const std::unique_ptr<Restoring> done = std::move(restoring);
  restoring_.erase(partition);
  if (!restored.ok()) return restored.error();
  return std::move(done->store);
}

// What is here of a partition, unless that is what a restore left that broke off, or is outdated.
Result<std::unique_ptr<UserStateStore>> Pipeline::OpenLocal(const Assignment& assignment) {
  ASSIGN_OR_RETURN(std::unique_ptr<UserStateStore> store, states_.OpenPartition(assignment.partition));
  const bool broken = !store->Position() && store->Stats().estimated_users > 0;
  ASSIGN_OR_RETURN(const bool outdated, IsOutdated(*store, assignment));
  if (!broken && !outdated) return store;
  store.reset();
  RETURN_IF_ERROR(states_.RemovePartition(assignment.partition));
  return states_.OpenPartition(assignment.partition);
}

// Whether a store waits for events that the input has lost, while the snapshot topic holds what became of them.
Result<bool> Pipeline::IsOutdated(const UserStateStore& store, const Assignment& assignment) {
  const SnapshotOptions& from = options_.snapshots;
  const std::optional<Offset> position = store.Position();
  const std::optional<Offset> begin = assignment.input_begin;
  if (!from.read || from.file || !position || !begin || *position >= *begin) return false;
  ASSIGN_OR_RETURN(const std::unique_ptr<EventSource> records, from.read(assignment.partition));
  ASSIGN_OR_RETURN(const auto watermark, SnapshotRestore::FindWatermark(*records, from.whose));
  if (!watermark || *watermark < *begin) return false;
  spdlog::warn(
      "{}[{}]: input begins at offset {}, local state is at {}, the snapshot at {}: the local state is deleted",
      options_.topic, Raw(assignment.partition), Raw(*begin), Raw(*position), Raw(*watermark));
  return true;
}

Result<bool> Pipeline::Restore(PartitionId partition, Restoring& restoring) {
  if (restoring.restore == nullptr) {
    ASSIGN_OR_RETURN(restoring.restore, BeginRestore(partition, *restoring.store));
    if (restoring.restore == nullptr) return true;
  }
  const int64_t before = restoring.restore->restored();
  const Result<bool> done = restoring.restore->Step(options_.snapshots.slice);
  if (metrics_ != nullptr) metrics_->AddRestored(restoring.restore->restored() - before);
  return done;
}

// From the snapshot that was named, or else from that of the topic; null: there is none.
Result<std::unique_ptr<SnapshotRestore>> Pipeline::BeginRestore(PartitionId partition, UserStateStore& store) {
  const SnapshotOptions& from = options_.snapshots;
  std::unique_ptr<EventSource> records;
  if (from.file) {
    ASSIGN_OR_RETURN(records, from.file(partition));
  }
  const bool in_topic = records == nullptr && from.read != nullptr;
  if (in_topic) {
    ASSIGN_OR_RETURN(records, from.read(partition));
  }
  if (records == nullptr) return std::unique_ptr<SnapshotRestore>();
  const std::string name = options_.topic + "[" + std::to_string(Raw(partition)) + "]";
  return std::make_unique<SnapshotRestore>(std::move(records), name, from.whose, in_topic, store);
}

Status Pipeline::OnRevoked(PartitionId partition, bool lost) {
  RETURN_IF_ERROR(FailPoint("on_revoked"));
  if (!lost && !rewind_due_) RETURN_IF_ERROR(Commit(false));
  // Lost: somebody else owns it already, and may have answered what is not committed here.
  rewind_due_ |= buffers_->uncommitted_events > 0;
  restoring_.erase(partition);
  Park(partition);
  if (metrics_ != nullptr) metrics_->DropLag(options_.topic, Raw(partition));
  ShareHotCache();
  return {};
}

// Closes a partition, if it is open, but for its store, which forgets what was not committed.
void Pipeline::Park(PartitionId partition) {
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return;
  found->second->store->Discard();
  parked_[partition] = std::move(found->second->store);
  partitions_.erase(found);
}

bool Pipeline::CaughtUp() const {
  return restoring_.empty() && std::all_of(partitions_.begin(), partitions_.end(), [](const auto& entry) {
           return entry.second->next >= entry.second->emit_from;
         });
}

Status Pipeline::OnRebuild(const Assignment& assignment, bool same_log) {
  if (!same_log && options_.snapshots.read) {
    // They would come back one day, with offsets that mean nothing in the new log.
    ASSIGN_OR_RETURN(const std::unique_ptr<EventSource> records, options_.snapshots.read(assignment.partition));
    ASSIGN_OR_RETURN(const bool empty, SnapshotRestore::IsEmpty(*records));
    if (!empty) {
      return Error(ErrorCode::kNeedsDecision, options_.topic + "[" + std::to_string(Raw(assignment.partition)) +
                                                  "]: the snapshots are those of the log before; to rebuild state, "
                                                  "name a new snapshots.topic as well");
    }
  }
  rebuilding_.insert(assignment.partition);
  Park(assignment.partition);
  parked_.erase(assignment.partition);  // closes its store
  restoring_.erase(assignment.partition);
  RETURN_IF_ERROR(states_.RemovePartition(assignment.partition));
  const auto position = OnAssigned(assignment);
  return position.ok() ? Status() : Status(position.error());
}

void Pipeline::ShareHotCache() {
  for (auto& [id, partition] : partitions_)
    partition->store->SetHotBytes(options_.hot_cache_bytes / partitions_.size());
}

// A transaction that came to nothing is no failure of the pipeline's: it is noted, and everything else is returned.
Status Pipeline::OrRewind(const Status& status) {
  if (status.ok() || status.error().code() != ErrorCode::kAborted) return status;
  spdlog::warn("{}; goes back to the last commit", status.error().message());
  rewind_due_ = true;
  return {};
}

// Forgets everything since the last commit, and reads it again.
Status Pipeline::Rewind() {
  const PipelineCounts before = std::exchange(counts_, committed_);
  counts_.aborts = committed_.aborts = before.aborts + 1;
  ++aborts_in_a_row_;
  RETURN_IF_ERROR(sink_.Abort());
  RETURN_IF_ERROR(source_.Rewind());
  buffers_->NothingUncommitted();
  rewind_due_ = false;
  return {};
}

}  // namespace freshet
