// Partitions that come, go, are restored, and are read again after a transaction that came to nothing.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/fail_point.h"
#include "pipeline/pipeline_parts.h"

namespace freshet {

Result<std::optional<Offset>> Pipeline::OnAssigned(const Assignment& assignment) {
  RETURN_IF_ERROR(FailPoint("on_assigned"));
  Park(assignment.partition);  // announced again before it was read
  std::unique_ptr<Partition> partition;
  if (auto parked = parked_.extract(assignment.partition)) {
    partition = std::move(parked.mapped());
  } else {
    ASSIGN_OR_RETURN(std::unique_ptr<UserStateStore> store, OpenStore(assignment));
    partition = std::make_unique<Partition>(assignment.partition, std::move(store));
  }
  const std::optional<Offset> position = partition->store->Position();
  partition->begin = position.value_or(Offset{0});
  // Without a position the source alone knows where reading begins: none is committed before it told one.
  partition->next = partition->committed = partition->begin;
  partition->emit_from = assignment.committed.value_or(Offset{0});
  if (options_.snapshots.read) BeginSnapshot(*partition);
  partitions_[assignment.partition] = std::move(partition);
  ShareHotCache();
  next_gauges_ = {};
  RETURN_IF_ERROR(FailPoint("after_assigned"));
  return position;
}

// Where another answered meanwhile, its snapshots may be newer than a walk of before; otherwise that goes on.
void Pipeline::BeginSnapshot(Partition& partition) {
  // The topic is new, or was made anew: it needs everybody.
  if (empty_snapshots_.contains(partition.id)) partition.store->SetSnapshotPosition(Offset{0});
  if (partition.snapshot && partition.emit_from <= partition.begin) return;
  const SnapshotOptions& options = options_.snapshots;
  partition.snapshot.emplace(options.whose, options.interval, std::chrono::steady_clock::now());
}

// The store of a partition: as it was left here, else from a snapshot, else empty. kUnavailable while it is made ready.
Result<std::unique_ptr<UserStateStore>> Pipeline::OpenStore(const Assignment& assignment) {
  std::unique_ptr<Restoring>& restoring = restoring_[assignment.partition];
  if (restoring == nullptr) restoring = std::make_unique<Restoring>();
  const Result<bool> ready = MakeReady(assignment, *restoring);
  if (ready.ok() && !*ready) return Error(ErrorCode::kUnavailable, "its state is being restored");
  std::unique_ptr<Restoring> done = std::move(restoring);
  if (!ready.ok() && ready.error().retriable()) {
    const bool begun = done->search != nullptr || done->restore != nullptr;
    restoring = begun ? std::make_unique<Restoring>() : std::move(done);
    return ready.error();
  }
  restoring_.erase(assignment.partition);
  if (!ready.ok()) return ready.error();
  return std::move(done->store);
}

// A slice of it. False: there is more to do.
Result<bool> Pipeline::MakeReady(const Assignment& assignment, Restoring& restoring) {
  const PartitionId partition = assignment.partition;
  if (restoring.store == nullptr) {
    ASSIGN_OR_RETURN(restoring.store, states_.OpenPartition(partition));
    const bool broken = !restoring.store->Position() && restoring.store->Stats().estimated_users > 0;
    if (broken) RETURN_IF_ERROR(Empty(partition, restoring));  // a restore broke off
  }
  if (rebuilding_.erase(partition) > 0) return true;
  if (MayBeOutdated(*restoring.store, assignment)) {
    ASSIGN_OR_RETURN(const bool known, FindWatermark(partition, restoring));
    if (!known) return false;
    if (!IsOutdated(restoring, assignment)) return true;
    RETURN_IF_ERROR(Empty(partition, restoring));
  }
  if (restoring.store->Position()) return true;
  return Restore(partition, restoring);
}

Status Pipeline::Empty(PartitionId partition, Restoring& restoring) {
  restoring = Restoring();
  RETURN_IF_ERROR(states_.RemovePartition(partition));
  ASSIGN_OR_RETURN(restoring.store, states_.OpenPartition(partition));
  return {};
}

// Whether a store waits for events that the input has lost, and the snapshot topic may hold what became of them.
bool Pipeline::MayBeOutdated(const UserStateStore& store, const Assignment& assignment) const {
  const std::optional<Offset> position = store.Position();
  const std::optional<Offset> begin = assignment.input_begin;
  return options_.snapshots.read && !options_.snapshots.file && position && begin && *position < *begin;
}

Result<bool> Pipeline::FindWatermark(PartitionId partition, Restoring& restoring) {
  const SnapshotOptions& from = options_.snapshots;
  if (restoring.search == nullptr) {
    ASSIGN_OR_RETURN(std::unique_ptr<EventSource> records, from.read(partition));
    restoring.search = std::make_unique<WatermarkSearch>(std::move(records), NameOf(partition), from.whose);
  }
  return restoring.search->Step(Slice());
}

bool Pipeline::IsOutdated(const Restoring& restoring, const Assignment& assignment) const {
  const std::optional<Offset> watermark = restoring.search->position();
  if (!watermark || *watermark < *assignment.input_begin) return false;
  spdlog::warn("{}: input begins at offset {}, local state is at {}, the snapshot at {}: the local state is deleted",
               NameOf(assignment.partition), Raw(*assignment.input_begin), Raw(*restoring.store->Position()),
               Raw(*watermark));
  return true;
}

// Each partition's share, so that those which are served wait no longer when many are restored.
std::chrono::milliseconds Pipeline::Slice() const { return options_.snapshots.slice / std::ssize(restoring_); }

std::string Pipeline::NameOf(PartitionId partition) const {
  return options_.topic + "[" + std::to_string(Raw(partition)) + "]";
}

Result<bool> Pipeline::Restore(PartitionId partition, Restoring& restoring) {
  if (restoring.restore == nullptr) {
    ASSIGN_OR_RETURN(restoring.restore, BeginRestore(partition, *restoring.store));
    if (restoring.restore == nullptr) return true;
  }
  const int64_t before = restoring.restore->restored();
  const Result<bool> done = restoring.restore->Step(Slice());
  if (metrics_ != nullptr) metrics_->AddRestored(restoring.restore->restored() - before);
  if (done.ok() && *done) RETURN_IF_ERROR(FailPoint("after_restore"));
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
  RETURN_IF_ERROR(FailPoint("before_restore"));
  return std::make_unique<SnapshotRestore>(std::move(records), NameOf(partition), from.whose, in_topic, store);
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
  next_gauges_ = {};
  return FailPoint("after_revoked");
}

// Lays a partition, if it is open, aside: it forgets what was not committed.
void Pipeline::Park(PartitionId partition) {
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return;
  Partition& parked = *found->second;
  parked.store->Discard();
  if (parked.snapshot) parked.snapshot->Discard();
  parked.snapshot_due = false;
  CountStore(parked);
  parked_[partition] = std::move(found->second);
  partitions_.erase(found);
}

const char* Pipeline::Missing() const {
  if (!restoring_.empty()) return "restores its state";
  const bool caught_up = std::all_of(partitions_.begin(), partitions_.end(),
                                     [](const auto& entry) { return entry.second->next >= entry.second->emit_from; });
  if (!caught_up) return "takes in events that were answered before";
  return aborts_in_a_row_ >= 3 ? "its transactions come to nothing" : nullptr;
}

Status Pipeline::OnRebuild(const Assignment& assignment, bool same_log) {
  if (!same_log && options_.snapshots.read) {
    // They would come back one day, with offsets that mean nothing in the new log.
    ASSIGN_OR_RETURN(std::unique_ptr<EventSource> records, options_.snapshots.read(assignment.partition));
    ASSIGN_OR_RETURN(const bool empty, SnapshotRestore::IsEmpty(std::move(records)));
    if (!empty) {
      return Error(ErrorCode::kNeedsDecision, NameOf(assignment.partition) +
                                                  ": the snapshots are those of the log before; to rebuild state, "
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
  if (metrics_ != nullptr) metrics_->AddAborts(1);
  next_gauges_ = {};
  ReportGauges();  // what follows may take as long as an outage
  RETURN_IF_ERROR(sink_.Abort());
  RETURN_IF_ERROR(source_.Rewind());
  buffers_->NothingUncommitted();
  rewind_due_ = false;
  return {};
}

}  // namespace freshet
