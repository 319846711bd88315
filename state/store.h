// Durable per-user state of one partition: RocksDB (rocksdb_store.cc) or memory (memory_store.cc), one contract suite
// for both.
//
// Guarantees: Apply() is atomic: after a crash of the process either all of a batch's states and its position are
// there, or none.
//   A user read back equals the user applied, except what is a cache (key_values, item_rows, last_list), which is then
//   empty.
// Threads: one caller. Instances of different partitions share a block cache and a write-buffer manager
// (StateDirectory). Limits: users changed since the last Apply() stay in memory whatever the budget; the others are
// evicted, least recently used first, at the call after the one that went over it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ids.h"
#include "core/result.h"
#include "state/user_state.h"

namespace freshet {

struct StoreStats {
  int64_t hot_users = 0;
  int64_t hot_bytes = 0;
  int64_t unsaved_users = 0;  // of hot_users: changed since the last Apply(), which alone lets them be evicted
  int64_t unsaved_bytes = 0;
  int64_t hits = 0;    // Load() found the user in memory
  int64_t misses = 0;  // read from disk, or new
  int64_t evictions = 0;
  int64_t estimated_users = 0;  // on disk; an estimate
  int64_t disk_bytes = 0;
};

// How a store does on its disk; all 0 of one in memory.
struct DiskStats {
  int64_t table_bytes = 0;               // live tables on disk
  int64_t memtable_bytes = 0;            // memory of what is in no table yet
  int64_t pending_compaction_bytes = 0;  // what compactions that are due have to rewrite; an estimate
  int64_t stalled = 0;                   // 1: writes are slowed down or stopped, until compactions catch up
  int64_t stall_us = 0;                  // that writers waited for this since the store was opened
  int64_t block_cache_bytes = 0;         // memory of the cache that all stores of a directory share
};

// A durable user as it is stored, for snapshots.
struct StoredUser {
  std::string_view id;
  std::string_view bytes;     // as state/codec.h has them
  Offset applied_offset{-1};  // as they say
  bool forgotten = false;     // there, and nothing else is known of the user
};

class UserStateStore {
 public:
  virtual ~UserStateStore() = default;

  // The states of `users`, in their order (the same user twice gives the same pointer twice); an unknown user's state
  // is empty. Pointers live until the next Load(), Find(), FindHot(), Apply(), Discard() or
  // SetHotBytes().
  virtual Result<std::span<UserState* const>> Load(std::span<const std::string_view> users) = 0;

  // A known user's state, or null; for queries: it neither creates users nor counts as a hit. Pointer as above.
  virtual Result<UserState*> Find(std::string_view user) = 0;
  // The same of a user in memory, without a look at the disk: null does not say that the store does not know the user.
  virtual UserState* FindHot(std::string_view user) = 0;

  // Makes the changes to loaded states durable together with `position`, the offset of the next event to consume.
  // REQUIRES: no position before Position().
  virtual Status Apply(Offset position) = 0;

  // Forgets changes since the last Apply(). Nothing durable changes.
  virtual void Discard() = 0;

  // Where consumption goes on; absent: a new store.
  virtual std::optional<Offset> Position() const = 0;

  // Bytes of users kept ready from now on; evicts down to it. Users changed since the last Apply() count, but are never
  // evicted. A memory store keeps everybody.
  virtual void SetHotBytes(size_t bytes) = 0;

  // Calls `visit` for every durable user who is not forgotten, by user id ascending, until it returns false; begins
  // behind the id `after`. Changes not yet applied are not seen.
  virtual Status ForEach(const std::function<bool(const UserState&)>& visit,
                         std::optional<std::string_view> after = std::nullopt) = 0;

  // Visits up to `limit` durable users, by id ascending, after the user `after` (empty: from the first on), until
  // `visit` returns false; `after` becomes the last one visited. False: there is none behind it. Forgotten users are
  // among them, until DropForgotten().
  virtual Result<bool> Scan(std::string& after, size_t limit, const std::function<bool(const StoredUser&)>& visit) = 0;

  // Takes users of a snapshot in, in place of what is there; durable once the next Apply() is. Only `id` and `bytes` of
  // them count; without bytes, nothing of the user stays. REQUIRES: no user was loaded yet.
  virtual Status Restore(std::span<const StoredUser> users) = 0;

  // The position up to which a snapshot elsewhere holds every change. A new one is durable with the next Apply(), and
  // Discard() forgets it.
  virtual std::optional<Offset> SnapshotPosition() const = 0;
  virtual void SetSnapshotPosition(Offset position) = 0;

  // A user who was forgotten stays as such, with no more than id and offset, for as long as a snapshot somewhere may
  // hold what was known before: until every place that snapshots of this store went to is past the offset. Where none
  // ever went, nothing stays. The position up to which all those places hold every change:
  virtual Offset SnapshottedUpTo() const = 0;
  // Takes away what is left of these forgotten users, at once. REQUIRES: they are, and before SnapshottedUpTo().
  virtual Status DropForgotten(std::span<const std::string> users) = 0;

  // Some microseconds: fit for once a micro-batch.
  virtual StoreStats Stats() const = 0;

  // Some tens of microseconds, under RocksDB's lock: fit for about once a second.
  virtual DiskStats Disk() const { return {}; }
};

struct StateOptions {
  std::filesystem::path directory;  // state.directory
  std::string application;
  size_t hot_cache_bytes = size_t{1} << 30;      // each partition's until SetHotBytes(): the caller splits the budget
  size_t block_cache_bytes = size_t{256} << 20;  // RocksDB's, all partitions together, memtables included
  size_t write_buffer_bytes = size_t{64} << 20;  // RocksDB's memtables, all partitions together
  // Tokens kept per user, at least: a directory that keeps more goes on so, for the model that needed them may come
  // back. More than it kept: users grow with their next events. What reads only takes the directory's own number.
  size_t history = 197;
  bool shorten_history = false;  // keep no more than `history`, though the directory did
  std::string snapshots;         // where they go: each place has a snapshot position of its own
  std::string rocksdb_options;   // verbatim "name=value;…", over ours
  bool read_only = false;        // for looking at a directory at rest
};

// Error where RocksDB does not understand StateOptions::rocksdb_options, as Open() has it. Touches no disk.
Status CheckRocksDbOptions(const std::string& rocksdb_options);

// The state directory, held by this process, and what its partitions share. Layout: FORMAT (text), LOCK,
// partition-<id>/ (a RocksDB each). Thread-safe. Stores may outlive it; the directory stays held until the last is
// gone.
class StateDirectory {
 public:
  // Creates or opens the directory. Clear errors, each naming the path: not writable, in use by another process (with
  // its pid), of another format version, of another application, state.rocksdb_options that RocksDB refuses.
  // With read_only nothing is created or written; several readers may hold the directory, a writer excludes them.
  static Result<std::unique_ptr<StateDirectory>> Open(const StateOptions& options);
  virtual ~StateDirectory() = default;

  virtual Result<std::unique_ptr<UserStateStore>> OpenPartition(PartitionId partition) = 0;
  // Partitions that exist on disk, ascending.
  virtual Result<std::vector<PartitionId>> Partitions() const = 0;
  // Deletes a partition that is not open.
  virtual Status RemovePartition(PartitionId partition) = 0;
  // To be called now and then while every partition of this instance's is open: one that is not is lost, from the first
  // call on that finds it so until it is opened. Deletes one that has been lost for `kept`, processes that ended in
  // between included (a file LOST in its folder is as old as the loss), and says which.
  virtual Result<std::optional<PartitionId>> RemoveLostPartition(std::chrono::milliseconds kept) = 0;

  // A small text kept in FORMAT under `key`, e.g. how many partitions log files are spread over; absent: not set. Set
  // once: another value later is an error. One line each; a key has no ':'. `history` is there from the beginning; only
  // Open() changes it.
  virtual std::optional<std::string> Fact(std::string_view key) const = 0;
  virtual Status SetFact(std::string_view key, std::string_view value) = 0;
};

// A store without a disk; Apply() keeps, Discard() returns to what was applied. `history` as in StateOptions.
std::unique_ptr<UserStateStore> MakeMemoryStore(size_t history);

// A digest of users (id, profile, tokens, event ids) that does not depend on their order or partition; for comparing
// states. The applied offset is left out: it changes with the number of partitions and with how log files are split.
class StateDigest {
 public:
  void Add(const UserState& user);
  std::string Hex() const;  // 32 hexadecimal digits

 private:
  uint64_t sum_[2] = {0, 0};
};

}  // namespace freshet
