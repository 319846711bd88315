// Reading one partition of a snapshot, a little with each call, so that its caller can go on with other partitions:
// WatermarkSearch to know how new it is, SnapshotRestore to fill an empty store.
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

// The records of one partition of a snapshot, from its beginning to its end.
class SnapshotReader {
 public:
  // `doing` begins the log's lines, one every 5 s.
  SnapshotReader(std::unique_ptr<EventSource> records, std::string doing);
  ~SnapshotReader();

  // Works for about `budget`, at least for one batch. True: all were given to `take`.
  Result<bool> Step(std::chrono::milliseconds budget, const std::function<Status(const RecordBatch&)>& take);
  // How much of it was read, 0 to 1.
  double Progress() const { return records_->Progress().value_or(0); }

 private:
  class Listener;

  void LogProgress();

  const std::unique_ptr<EventSource> records_;
  const std::string doing_;
  const std::unique_ptr<Listener> listener_;
  std::chrono::steady_clock::time_point next_log_;
  RecordBatch batch_;
  int64_t read_ = 0;
  bool open_ = false;
};

class WatermarkSearch {
 public:
  // `name` and `whose`: as SnapshotRestore's.
  WatermarkSearch(std::unique_ptr<EventSource> records, const std::string& name, std::string whose);

  // Works for about `budget`. True: done, which takes as long as reading all of the snapshot. Errors as
  // SnapshotRestore::Step()'s, of watermarks alone.
  Result<bool> Step(std::chrono::milliseconds budget);

  // Of the newest watermark, once Step() is done; absent: there is none.
  std::optional<Offset> position() const { return position_; }

 private:
  SnapshotReader reader_;
  const std::string whose_;
  std::optional<Offset> position_;
};

class SnapshotRestore {
 public:
  // `records`: one partition of a snapshot, from its beginning to its end. `name` says in logs and errors whose state
  // it is to become; `whose`: as SnapshotWriter's, and what the watermark has to say. `in_topic`: they are the records
  // of the topic that snapshots go to, which therefore lacks nothing before the watermark. `store` outlives this.
  SnapshotRestore(std::unique_ptr<EventSource> records, const std::string& name, std::string whose, bool in_topic,
                  UserStateStore& store);

  // Whether a snapshot has no record at all. kUnavailable when nobody can tell within 5 s.
  static Result<bool> IsEmpty(std::unique_ptr<EventSource> records);

  // Records of users so far.
  int64_t restored() const { return restored_; }
  // How much of the snapshot was read, 0 to 1.
  double Progress() const { return reader_.Progress(); }

  // Works for about `budget`. True: done; the store has the watermark's position, or none where there was no watermark
  // (users restored without one only spare later work). Errors name the record: kCorrupt for damage, kInvalidArgument
  // for another application's snapshot.
  Result<bool> Step(std::chrono::milliseconds budget);

 private:
  Status TakeIn(const RecordBatch& batch);
  Status Finish();

  SnapshotReader reader_;
  const std::string name_;
  const std::string whose_;
  const bool in_topic_;
  UserStateStore& store_;
  const std::chrono::steady_clock::time_point began_;
  std::vector<StoredUser> users_;
  std::optional<Watermark> watermark_;
  int64_t restored_ = 0;  // records of users; a user may have several until the topic is compacted
};

}  // namespace freshet
