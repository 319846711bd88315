// Fills an empty store from a snapshot, a little with each call, so that its caller can go on with other partitions.
//
// Threads: the pipeline's. Memory: one batch of records.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "ingest/event_source.h"
#include "state/snapshot.h"
#include "state/store.h"

namespace freshet {

class SnapshotRestore {
 public:
  // `records`: one partition of a snapshot, from its beginning to its end. `name` says in logs and errors whose state
  // it is to become; `whose`: as SnapshotWriter's, and what the watermark has to say. `in_topic`: they are the records
  // of the topic that snapshots go to, which therefore lacks nothing before the watermark. `store` outlives this.
  SnapshotRestore(std::unique_ptr<EventSource> records, std::string name, std::string whose, bool in_topic,
                  UserStateStore& store);
  ~SnapshotRestore();

  // Of a snapshot that nobody opened yet. They return when they know, or kUnavailable when nothing comes for 5 s.
  // Whether it has no record at all:
  static Result<bool> IsEmpty(EventSource& records);
  // Its newest watermark, which takes as long as reading all of it; absent: it has none. Errors as Step()'s.
  static Result<std::optional<Offset>> FindWatermark(EventSource& records, const std::string& whose);

  // Records of users so far.
  int64_t restored() const { return restored_; }

  // Works for about `budget`. True: done; the store has the watermark's position, or none where there was no watermark
  // (users restored without one only spare later work). Errors name the record: kCorrupt for damage, kInvalidArgument
  // for another application's snapshot.
  Result<bool> Step(std::chrono::milliseconds budget);

 private:
  class Listener;

  static Status ReadAll(EventSource& records, const std::function<Result<bool>(const RecordBatch&)>& take);
  Status TakeIn(const RecordBatch& batch);
  Status Finish();
  void LogProgress();

  const std::unique_ptr<EventSource> records_;
  const std::string name_;
  const std::string whose_;
  const bool in_topic_;
  UserStateStore& store_;
  const std::unique_ptr<Listener> listener_;
  const std::chrono::steady_clock::time_point began_;
  std::chrono::steady_clock::time_point next_log_;
  RecordBatch batch_;
  std::vector<StoredUser> users_;
  std::optional<Watermark> watermark_;
  int64_t restored_ = 0;  // records of users; a user may have several until the topic is compacted
  bool open_ = false;
};

}  // namespace freshet
