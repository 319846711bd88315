// Keeps a RecommendationStore up with its topic.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>

#include "core/result.h"
#include "ingest/event_source.h"
#include "ingest/kafka_range.h"
#include "pipeline/readiness.h"
#include "pipeline/serve/recommendation_store.h"

namespace freshet {

class TopicFollower final : public AssignmentListener {
 public:
  // `ends`: where the topic ended at the start; from there on this is ready. All outlive it.
  TopicFollower(EventSource& source, RecommendationStore& store, TopicRange ends, Readiness& readiness);

  // Reads until `stop`, then leaves. One thread.
  Status Run(const std::atomic<bool>& stop);

  int64_t lag() const { return lag_; }  // records that the topic holds beyond those taken in; any thread

  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override;
  Status OnRevoked(PartitionId partition, bool lost) override;

 private:
  // Whether all that was there at the start is taken in.
  bool CaughtUp() const;

  EventSource& source_;
  RecommendationStore& store_;
  const TopicRange ends_;
  Readiness& readiness_;
  std::atomic<int64_t> lag_{0};
};

}  // namespace freshet
