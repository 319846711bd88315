// Writes the snapshot of one partition, a little with each commit.
//
// A cycle visits every user of the store by id, and writes those that changed since the last whole cycle began. When it
// is through, a watermark says from which position on the input is still needed. Of a forgotten user it writes a
// tombstone, and a whole cycle later it has the store drop what was left of them. A cycle takes half of
// snapshots.interval, so that no change is older than the interval when it and its watermark are written.
// Cost: the users that changed, plus reading all of them from RocksDB once a cycle; memory: one user.
// Threads: the pipeline's. What Next() gave belongs to the commit that follows. When that comes to nothing, or the
// partition goes and comes back with its store, the cycle goes on from the last commit: what was written until then
// holds every change before the cycle's beginning, and the users behind it are still to be visited.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "state/store.h"

namespace freshet {

struct SnapshotRecord {
  std::string key;
  std::string value;  // empty: none, a tombstone: the user was forgotten
};

class SnapshotWriter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `whose`: what the watermark names.
  SnapshotWriter(std::string whose, std::chrono::milliseconds interval, TimePoint now);

  // Appends the records that are due by `now`. At the end of a cycle it also tells the store of the new snapshot
  // position, to be made durable by its next Apply().
  Status Next(UserStateStore& store, TimePoint now, std::vector<SnapshotRecord>& records);

  // What Next() gave, which was not nothing, is committed. True: its last record is a watermark.
  bool Committed();
  // It came to nothing, as did what the store has not applied.
  void Discard() { cursor_ = committed_; }

 private:
  bool Begin(const UserStateStore& store, TimePoint now);

  struct Cursor {
    TimePoint began;              // the running cycle, or the last one
    std::optional<Offset> up_to;  // the store's position when the running cycle began; absent: none is running
    std::string after;            // the user visited last
    double users = 0;             // that the store is thought to hold
    double visited = 0;
  };

  const std::string whose_;
  const std::chrono::nanoseconds cycle_;
  Cursor cursor_;
  Cursor committed_;  // cursor_ as of the last commit
};

}  // namespace freshet
