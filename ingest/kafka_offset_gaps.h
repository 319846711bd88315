// Where reading of a partition begins and goes on. Its state, the group's committed offset and the input may disagree:
// source.on_offset_gap decides, and the log tells of it. Internal to ingest/kafka*.cc.
#pragma once

#include <optional>
#include <string>

#include "core/ids.h"
#include "core/result.h"
#include "ingest/event_source.h"
#include "ingest/kafka.h"
#include "ingest/kafka_partitions.h"

namespace freshet::kafka {

Assignment ToAssignment(const Facts& facts);

// An error that is kNeedsDecision names topic, partition, both offsets, and what resolves it; one that is kUnavailable
// means to ask again later.
class OffsetGaps {
 public:
  // All outlive this.
  OffsetGaps(const KafkaOptions& options, const PartitionLookup& lookup, AssignmentListener& listener)
      : options_(options), lookup_(lookup), listener_(listener) {}

  // Before the listener hears of the partition: a committed offset beyond the input's end, which counts as none unless
  // the policy is to fail.
  Status CheckCommitted(Facts& facts) const;

  struct Beginning {
    Offset next{};
    Offset origin{};  // to be committed with it
  };
  // Where reading begins, with the listener's `position`. Without one the partition has no state: whatever was read
  // since its origin has to be in the input still.
  Result<Beginning> Begin(Facts& facts, std::optional<Offset> position) const;

  // Where reading goes on, when the brokers said that they do not hold `next`. `rebuilt`: state begins anew there.
  struct Continued {
    Offset next{};
    bool rebuilt = false;
  };
  Result<Continued> Continue(PartitionId partition, Offset next) const;

 private:
  Result<Offset> OverGap(Facts facts, Offset position, const std::string& whose) const;
  Result<Offset> OverMove(const Facts& facts, Offset position) const;

  const KafkaOptions& options_;
  const PartitionLookup& lookup_;
  AssignmentListener& listener_;
};

}  // namespace freshet::kafka
