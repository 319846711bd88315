#include "ingest/memory.h"

namespace freshet {

Status MemorySource::Open(AssignmentListener& listener) {
  listener_ = &listener;
  return {};
}

Status MemorySource::Assign() {
  assigned_ = true;
  next_.assign(topic_.partitions.size(), 0);
  for (size_t p = 0; p < next_.size(); ++p) {
    const PartitionId partition{static_cast<int32_t>(p)};
    const auto committed = topic_.committed.find(partition);
    Assignment assignment{partition, std::nullopt};
    if (committed != topic_.committed.end()) assignment.committed = committed->second;
    ASSIGN_OR_RETURN(const std::optional<Offset> position, listener_->OnAssigned(assignment));
    if (position) next_[p] = Raw(*position);
  }
  return {};
}

Result<PollState> MemorySource::Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds) {
  if (!assigned_) RETURN_IF_ERROR(Assign());
  const std::vector<int64_t> before = next_;
  size_t delivered = 0;
  for (size_t idle = 0; delivered < max_records && idle < next_.size(); turn_ = (turn_ + 1) % next_.size()) {
    const std::vector<std::string>& records = topic_.partitions[turn_];
    if (next_[turn_] >= static_cast<int64_t>(records.size())) {
      ++idle;
      continue;
    }
    idle = 0;
    ++delivered;
    const PartitionId partition{static_cast<int32_t>(turn_)};
    const Offset offset{next_[turn_]++};
    RawRecord& record = batch.records.emplace_back();
    record.topic = topic_.name;
    record.partition = record.shown_partition = partition;
    record.offset = record.shown_offset = offset;
    const std::string& value = records[static_cast<size_t>(Raw(offset))];
    if (!topic_.tombstones.contains({Raw(partition), Raw(offset)})) {
      record.value = value.empty() ? std::string_view(batch.arena.Allocate(0), 0) : batch.arena.Copy(value);
    }
    if (!topic_.keys.empty()) record.key = batch.arena.Copy(topic_.keys[turn_][static_cast<size_t>(Raw(offset))]);
  }
  bool end = true;
  for (size_t p = 0; p < next_.size(); ++p) {
    if (next_[p] != before[p]) batch.positions.push_back({PartitionId{static_cast<int32_t>(p)}, Offset{next_[p]}});
    end = end && next_[p] >= static_cast<int64_t>(topic_.partitions[p].size());
  }
  return end ? PollState::kEnd : PollState::kMore;
}

Status MemorySource::Commit(std::span<const PartitionPosition> positions) {
  for (const PartitionPosition& position : positions) topic_.committed[position.partition] = position.next;
  return {};
}

Status MemorySource::Rewind() { return Revoke(true); }

Status MemorySource::Close() { return Revoke(false); }

Status MemorySource::Revoke(bool lost) {
  if (!assigned_) return {};
  assigned_ = false;
  for (size_t p = 0; p < next_.size(); ++p) {
    RETURN_IF_ERROR(listener_->OnRevoked(PartitionId{static_cast<int32_t>(p)}, lost));
  }
  return {};
}

Status MemorySink::Publish(std::span<const OutputRecord> records) {
  for (const OutputRecord& record : records) {
    pending_.push_back({record.stream, std::string(record.key), std::string(record.value), record.headers,
                        record.partition, record.value.data() == nullptr});
    auto& headers = pending_.back().headers;
    if (!record.trace.traceparent.empty()) headers.emplace_back(kTraceParent, record.trace.traceparent);
    if (!record.trace.tracestate.empty()) headers.emplace_back(kTraceState, record.trace.tracestate);
  }
  return {};
}

Status MemorySink::Commit(std::span<const PartitionPosition>) {
  committed_.insert(committed_.end(), std::make_move_iterator(pending_.begin()),
                    std::make_move_iterator(pending_.end()));
  pending_.clear();
  return {};
}

}  // namespace freshet
