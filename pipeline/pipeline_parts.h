// What the files of class Pipeline share. Internal to pipeline/pipeline.cc, commit.cc, recovery.cc,
// answers.cc and reporting.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/pipeline.h"
#include "pipeline/snapshot_restore.h"
#include "pipeline/snapshot_writer.h"

namespace freshet {

struct Pipeline::Partition {
  Partition(PartitionId which, std::unique_ptr<UserStateStore> its_store) : id(which), store(std::move(its_store)) {}

  const PartitionId id;
  const std::unique_ptr<UserStateStore> store;
  Offset begin{0};      // records before it are in the state already
  Offset emit_from{0};  // records before it were answered already
  Offset next{0};       // what a commit now would make the position
  Offset committed{0};  // what the position is; equal to `next`: there is nothing to commit
  std::optional<SnapshotWriter> snapshot;
  bool snapshot_due = false;    // records of it, or its watermark, belong to the next commit
  std::vector<uint32_t> works;  // of the running batch
  std::vector<std::string_view> users;
  std::optional<int64_t> last_event_ms;  // time of the event that was read last
  // Since when the snapshot lacks something: its last watermark, or when it lacked nothing, or was opened.
  std::chrono::steady_clock::time_point behind_since = std::chrono::steady_clock::now();
  StoreStats counted;  // of the store's, what Pipeline::closed_ has
  int64_t counted_stall_us = 0;
};

struct Pipeline::Restoring {
  std::unique_ptr<UserStateStore> store;     // null: not looked at yet
  std::unique_ptr<WatermarkSearch> search;   // whether the store is outdated
  std::unique_ptr<SnapshotRestore> restore;  // into the store
};

struct Pipeline::Work {
  const RawRecord* record = nullptr;
  Partition* partition = nullptr;
  Event event;
  UserState* user = nullptr;   // null: nothing to do any more
  ItemRow row = kUnknownItem;  // the event's item
  bool forgets = false;        // to be told to the consumers
  int64_t sequence_number = 0;
  float* user_vector = nullptr;  // null: no answer wanted
  size_t excluded_begin = 0;     // of Buffers::excluded
  size_t excluded_end = 0;
  size_t request = 0;  // its index, where an answer is wanted
};

struct Pipeline::Buffers {
  RecordBatch batch;
  std::vector<Work> works;
  std::vector<std::pair<const UserState*, uint32_t>> by_user;  // works, a user's side by side and in order
  std::vector<StepRow> rows;
  std::vector<float> user_vectors;    // [works, dim]
  std::vector<ItemRow> excluded;      // each answer's, one after another
  std::vector<RankRequest> requests;  // one for each work with a user vector, in order
  std::vector<ScoredItem> top;        // [works, top_k]
  std::string encoded;
  std::vector<size_t> encoded_ends;
  std::vector<OutputRecord> outputs;
  // Since the last commit.
  size_t uncommitted_bytes = 0;
  int64_t uncommitted_events = 0;
  int64_t uncommitted_records = 0;
  int64_t uncommitted_snapshots = 0;
  std::vector<int64_t> uncommitted_event_times_ms;         // of those that are answered
  std::vector<std::string_view> uncommitted_dead_letters;  // their codes

  void NothingUncommitted() {
    uncommitted_bytes = 0;
    uncommitted_events = 0;
    uncommitted_records = 0;
    uncommitted_snapshots = 0;
    uncommitted_event_times_ms.clear();
    uncommitted_dead_letters.clear();
  }
};

}  // namespace freshet
