// Where recommendations and dead letters go: Kafka, files, or memory. One contract suite (tests/ingest/sink_contract.h)
// runs on all.
//
// Publish() hands records over; Commit() makes everything published since the last one visible and durable *together
// with* the source positions it answers, as far as the kind can: a transaction (Kafka, with processing.guarantee:
// exactly_once), the commit log (files), or a flush (Kafka at least once: a crash right after may publish again). State
// follows only after Commit() returned. An error kAborted of either says that nothing since the last Commit() will be
// seen, or that it is not known; Abort() goes on. Threads: one worker owns one sink.
#pragma once

#include <span>

#include "core/result.h"
#include "ingest/record.h"

namespace freshet {

class RecordSink {
 public:
  virtual ~RecordSink() = default;

  // Copies what it keeps. May wait for room (back-pressure), and returns an error once the sink is broken.
  virtual Status Publish(std::span<const OutputRecord> records) = 0;

  virtual Status Commit(std::span<const PartitionPosition> positions) = 0;

  // Throws away what was published since the last Commit(), as far as the kind can, and is ready for more. What a
  // Commit() without a clear answer did is certain afterwards. May wait as Publish() does.
  virtual Status Abort() = 0;
};

}  // namespace freshet
