// Where events come from: Kafka, log files, or memory. One contract suite (tests/ingest/source_contract.h) runs on all
// three.
//
// Operation: Poll() in a loop. Partitions come and go *inside* Poll(), through the listener, on the caller's thread.
//   A record is delivered in offset order within its partition, and again after a restart until its position is
//   committed.
// Threads: one worker owns one source; nothing here is shared except what a concrete class says.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "ingest/record.h"

namespace freshet {

// What the source tells of a partition that was just assigned.
struct Assignment {
  PartitionId partition{};
  // Position up to which outputs are published (Kafka: the group's committed offset; files: the commit log). Absent:
  // nothing yet.
  std::optional<Offset> committed;
  // Whether freshet itself committed that position; else somebody moved the group's offset.
  bool committed_by_us = true;
  // The first record that the input still holds, where it may have lost some.
  std::optional<Offset> input_begin;
};

// Told of partitions, on the thread that calls Poll().
class AssignmentListener {
 public:
  virtual ~AssignmentListener() = default;

  // Opens what the partition needs and answers where to read from: the store's own position, or nothing where it has
  // none. Reading then begins at the store's position; without one at source.start. The records between the position
  // and `committed` were answered before a crash: they change state and are not answered again. kUnavailable: what it
  // needs is not there yet; the others are read meanwhile, and it is announced again with the next Poll(). Kafka only.
  virtual Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) = 0;

  // source.on_offset_gap is rebuild, and the input does not hold the records that the partition's state waits for:
  // makes its state empty, as that of a partition that was just assigned without one. `same_log`: offsets still mean
  // the records that they meant. Kafka only.
  virtual Status OnRebuild(const Assignment& assignment, bool same_log) {
    (void)assignment, (void)same_log;
    return Error(ErrorCode::kNeedsDecision, "state cannot be rebuilt here");
  }

  // The partition goes. `lost`: it already belongs to somebody else, so nothing of it may be committed any more.
  virtual Status OnRevoked(PartitionId partition, bool lost) = 0;
};

enum class PollState {
  kMore,  // records were delivered, or none came within the wait
  kEnd,   // the input is finished (log files and memory; Kafka never ends); the batch may hold its last records
};

class EventSource {
 public:
  virtual ~EventSource() = default;

  // Joins; partitions are announced during the following Poll() calls. `listener` outlives the source.
  virtual Status Open(AssignmentListener& listener) = 0;

  // Appends up to `max_records` records to `batch`, waiting at most `wait` for the first. Nothing to read is an empty
  // batch, a bad record is delivered like any other, and only a broken stream is an error.
  virtual Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) = 0;

  // Tells the input that everything before these positions is done and durable. Called after the outputs and the state
  // are.
  virtual Status Commit(std::span<const PartitionPosition> positions) = 0;

  // The outputs of what was delivered since the last Commit() came to nothing: each partition is announced as lost, and
  // during the next Poll() calls as assigned again, with what is committed then. Only where a sink can say kAborted.
  virtual Status Rewind() { return Error(ErrorCode::kInternal, "this source cannot go back"); }

  // Gives up all partitions (each is announced as revoked, not lost) and leaves.
  virtual Status Close() = 0;

  // Whether this member has its share of the input by now, be it empty (more workers than partitions).
  virtual bool Joined() const { return true; }

  // How often this member was given its share, the first time included. Kafka only: 0 of others.
  virtual int64_t Rebalances() const { return 0; }

  // Records the input holds beyond what was delivered, where that is known: {partition, records}.
  virtual std::vector<std::pair<PartitionId, int64_t>> Lag() const { return {}; }
  // Share of the input that was delivered, 0..1, where it ends; for progress.
  virtual std::optional<double> Progress() const { return std::nullopt; }
};

}  // namespace freshet
