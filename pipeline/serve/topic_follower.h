// Keeps a RecommendationStore up with its topic, whose records may be JSON or Protobuf (sink.format); it holds JSON.
//
// A record takes the place of everything of its user that came before it in its partition; a tombstone (no value)
// removes the user. A value that is no recommendation of its key's user is counted, told of once in the log, and left
// out.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>

#include "core/result.h"
#include "ingest/event_source.h"
#include "ingest/kafka_range.h"
#include "pipeline/readiness.h"
#include "pipeline/serve/recommendation_streams.h"
#include "state/recommendation_store.h"

namespace freshet {

class TopicFollower final : public AssignmentListener {
 public:
  // `ends`: where the topic ended at the start; from there on this is ready. All outlive it.
  TopicFollower(EventSource& source, RecommendationStore& store, RecommendationStreams& streams, TopicRange ends,
                Readiness& readiness);

  // Reads until `stop`, then leaves. One thread.
  Status Run(const std::atomic<bool>& stop);

  // Any thread.
  int64_t lag() const { return lag_; }                  // records that the topic holds beyond those taken in
  int64_t records() const { return records_; }          // taken in since the start
  int64_t bad_records() const { return bad_records_; }  // left out since the start

  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override;
  Status OnRevoked(PartitionId partition, bool lost) override;

 private:
  // All of it, or nothing.
  Status TakeIn(const RecordBatch& batch);
  Status TakeIn(const RawRecord& record);
  void LeaveOut(const RawRecord& record);
  // Whether all that was there at the start is taken in.
  bool CaughtUp() const;

  EventSource& source_;
  RecommendationStore& store_;
  RecommendationStreams& streams_;
  const TopicRange ends_;
  Readiness& readiness_;
  std::atomic<int64_t> lag_{0};
  std::atomic<int64_t> records_{0};
  std::atomic<int64_t> bad_records_{0};
};

}  // namespace freshet
