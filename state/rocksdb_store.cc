#include "state/rocksdb_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/merge_operator.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <map>
#include <mutex>

#include "core/hash.h"
#include "state/codec.h"
#include "state/hot_users.h"
#include "state/partition_mark.h"

namespace freshet {

class RocksDbResources {
 public:
  rocksdb::Options options;
  size_t history = 0;
  size_t hot_cache_bytes = 0;
  std::string snapshot_key;
  std::string application;
  bool read_only = false;
};

namespace {

constexpr char kUserPrefix = 'u';
constexpr char kPastUsers = kUserPrefix + 1;
constexpr std::string_view kPositionKey = "mposition";
constexpr std::string_view kSnapshotKey = "msnapshot";  // and behind it, whereto

std::string_view View(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }
rocksdb::Slice SliceOf(std::string_view view) { return {view.data(), view.size()}; }

Error ToError(const rocksdb::Status& status, const std::string& where) {
  if (status.IsNoSpace()) return Error(ErrorCode::kIo, where + ": no space left: " + status.ToString());
  const ErrorCode code = status.IsCorruption() ? ErrorCode::kCorrupt : ErrorCode::kIo;
  return Error(code, where + ": " + status.ToString());
}

// MergeDeltas() on whatever RocksDB holds. It never fails: a corrupt delta is kept for its reader to find, so that one
// user's damage does not stop compaction for all.
class DeltaMergeOperator final : public rocksdb::MergeOperator {
 public:
  explicit DeltaMergeOperator(size_t history) : history_(history) {}

  const char* Name() const override { return "freshet.delta.2"; }

  bool FullMergeV2(const MergeOperationInput& in, MergeOperationOutput* out) const override {
    std::vector<std::string_view> deltas;
    deltas.reserve(in.operand_list.size() + 1);
    if (in.existing_value != nullptr) deltas.push_back(View(*in.existing_value));
    for (const rocksdb::Slice& operand : in.operand_list) deltas.push_back(View(operand));
    out->new_value = MergeDeltas(deltas, history_);
    return true;
  }

  bool PartialMergeMulti(const rocksdb::Slice&, const std::deque<rocksdb::Slice>& operands, std::string* merged,
                         rocksdb::Logger*) const override {
    std::vector<std::string_view> deltas;
    deltas.reserve(operands.size());
    for (const rocksdb::Slice& operand : operands) deltas.push_back(View(operand));
    *merged = MergeDeltas(deltas, history_);
    return true;
  }

 private:
  const size_t history_;
};

// A partition's LOG, and LOG.old of the run before. Unlike RocksDB's own logger it takes a full disk in silence: that
// one, asked to log after a write of it failed, ends the process by an assertion, and RocksDB does ask while it waits
// for space. Thread-safe.
class LogFile final : public rocksdb::Logger {
 public:
  LogFile(const std::filesystem::path& folder, rocksdb::InfoLogLevel level) : Logger(level) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    std::filesystem::rename(folder / "LOG", folder / "LOG.old", error);
    file_ = std::fopen((folder / "LOG").c_str(), "we");
  }
  ~LogFile() override {
    if (file_ != nullptr) std::fclose(file_);
  }

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    if (file_ == nullptr) return;
    char message[1024], time[32];
    std::vsnprintf(message, sizeof(message), format, arguments);
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    std::strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    std::fprintf(file_, "%s %s\n", time, message);
    std::fflush(file_);
  }

 private:
  std::FILE* file_ = nullptr;  // null: cannot be had
};

// Keeps the partition's mark. What a flush or a compaction makes superfluous is deleted after its listeners were told,
// so that the mark knows of the tables first. Thread-safe.
class MarkKeeper final : public rocksdb::EventListener {
 public:
  explicit MarkKeeper(std::string owner) : owner_(std::move(owner)) {}

  Status Renew(rocksdb::DB& db) {
    const std::lock_guard guard(mutex_);
    std::vector<std::string> files;
    uint64_t bytes = 0;
    const rocksdb::Status listed = db.GetLiveFiles(files, &bytes, /*flush_memtable=*/false);
    if (!listed.ok()) return ToError(listed, db.GetName());
    const auto manifest = std::find_if(files.begin(), files.end(),
                                       [](const std::string& name) { return name.starts_with("/MANIFEST-"); });
    if (manifest == files.end()) return Error(ErrorCode::kInternal, db.GetName() + ": RocksDB names no MANIFEST");
    return MarkPartition(db.GetName(), owner_, manifest->substr(1), bytes);
  }
  // Where that fails the mark of before holds, too.
  void TryToRenew(rocksdb::DB& db) { [[maybe_unused]] const Status renewed = Renew(db); }

  const char* Name() const override { return "freshet.mark"; }
  void OnFlushCompleted(rocksdb::DB* db, const rocksdb::FlushJobInfo&) override { TryToRenew(*db); }
  void OnCompactionCompleted(rocksdb::DB* db, const rocksdb::CompactionJobInfo&) override { TryToRenew(*db); }

 private:
  const std::string owner_;
  std::mutex mutex_;
};

void SetCompression(rocksdb::Options& options) {
  const std::vector<rocksdb::CompressionType> supported = rocksdb::GetSupportedCompressions();
  const auto has = [&](auto type) { return std::find(supported.begin(), supported.end(), type) != supported.end(); };
  options.compression = has(rocksdb::kLZ4Compression) ? rocksdb::kLZ4Compression : rocksdb::kNoCompression;
  if (has(rocksdb::kZSTD)) options.bottommost_compression = rocksdb::kZSTD;
}

rocksdb::Options DefaultOptions(const StateOptions& state) {
  rocksdb::Options options;
  options.merge_operator = std::make_shared<DeltaMergeOperator>(state.history);
  SetCompression(options);

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(state.block_cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;  // so that block_cache_bytes bounds them, too
  table.pin_l0_filter_and_index_blocks_in_cache = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));

  // The manager decides when a memtable is full. Small arena blocks: a partition costs at least one.
  options.write_buffer_manager =
      std::make_shared<rocksdb::WriteBufferManager>(state.write_buffer_bytes, table.block_cache);
  options.write_buffer_size = state.write_buffer_bytes;
  options.arena_block_size = size_t{256} << 10;
  options.max_total_wal_size = 2 * state.write_buffer_bytes;

  options.allow_concurrent_memtable_write = false;  // a store has one writer
  options.level_compaction_dynamic_level_bytes = true;
  options.max_background_jobs = 2;
  options.max_open_files = 64;           // a partition's, of 64 MiB each
  options.max_file_opening_threads = 1;  // there is little to open, and RocksDB aborts where such a thread is refused
  options.bytes_per_sync = size_t{1} << 20;
  options.stats_dump_period_sec = 0;
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.max_manifest_file_size = size_t{16} << 20;
  return options;
}

class RocksDbStore final : public UserStateStore {
 public:
  RocksDbStore(std::unique_ptr<rocksdb::DB> db, std::string name, std::shared_ptr<const RocksDbResources> resources,
               std::shared_ptr<MarkKeeper> mark, std::shared_ptr<void> hold)
      : hold_(std::move(hold)),
        resources_(std::move(resources)),
        db_(std::move(db)),
        name_(std::move(name)),
        mark_(std::move(mark)),
        hot_(resources_->history),
        hot_budget_(resources_->hot_cache_bytes) {}
  ~RocksDbStore() override {
    if (resources_->read_only) return;
    rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/true);  // of what this interrupts no listener is told
    mark_->TryToRenew(*db_);
  }

  Status ReadPositions() {
    ASSIGN_OR_RETURN(position_, ReadPosition(kPositionKey, ": position"));
    ASSIGN_OR_RETURN(snapshot_position_, ReadPosition(resources_->snapshot_key, ": snapshot position"));
    new_snapshot_position_ = snapshot_position_;
    return ReadOtherSnapshots();
  }

  Result<std::span<UserState* const>> Load(std::span<const std::string_view> users) override {
    Settle();
    states_.clear();
    missing_.clear();
    hashes_.clear();
    for (const std::string_view user : users) {
      hashes_.push_back(StableHash(user));
      hot_.Prefetch(hashes_.back());
    }
    for (size_t i = 0; i < users.size(); ++i) {
      HotUser* user = hot_.Find(users[i], hashes_[i]);
      if (user == nullptr) {
        user = hot_.Insert(users[i], hashes_[i]);
        missing_.push_back(user);
      } else {
        hot_.TouchNewest(user);
      }
      loaded_.push_back(user);
      states_.push_back(&user->state);
    }
    RETURN_IF_ERROR(ReadMissing());
    misses_ += std::ssize(missing_);
    hits_ += std::ssize(users) - std::ssize(missing_);
    return std::span<UserState* const>(states_);
  }

  UserState* FindHot(std::string_view id) override {
    Settle();
    HotUser* const user = hot_.Find(id, StableHash(id));
    return user == nullptr ? nullptr : Known(user);
  }

  Result<UserState*> Find(std::string_view id) override {
    Settle();
    const uint64_t hash = StableHash(id);
    HotUser* user = hot_.Find(id, hash);
    if (user == nullptr) {
      rocksdb::PinnableSlice value;
      const rocksdb::Status status = db_->Get({}, db_->DefaultColumnFamily(), SliceOf(UserKey(id)), &value);
      if (status.IsNotFound()) return static_cast<UserState*>(nullptr);
      user = hot_.Insert(id, hash);
      hot_.TouchOldest(user);  // a flood of queries does not push out the users whose events arrive
      const Status read = TakeIn(status, value, user->state);
      if (!read.ok()) {
        hot_.Erase(user);
        return read.error();
      }
    }
    return Known(user);
  }

  Status Apply(Offset position) override {
    Settle();
    RETURN_IF_ERROR(CheckAdvance(position_, position));
    if (resources_->read_only) return Error(ErrorCode::kInvalidArgument, name_ + ": opened for reading only");
    batch_.Clear();
    for (const HotUser* const user : changed_) {
      StateCodec::EncodeUnsaved(user->state, value_);
      const rocksdb::Slice key = SliceOf(UserKey(user->state.user_id()));
      // A whole user needs nothing of what was there before: the next read then finds one value.
      const rocksdb::Status added = user->state.IsForgotten() && !has_snapshots_ ? batch_.Delete(key)
                                    : StateCodec::UnsavedIsAll(user->state)      ? batch_.Put(key, value_)
                                                                                 : batch_.Merge(key, value_);
      if (!added.ok()) return ToError(added, name_);
    }
    rocksdb::Status positioned = batch_.Put(SliceOf(kPositionKey), EncodePosition(position));
    if (positioned.ok() && new_snapshot_position_ != snapshot_position_) {
      positioned = batch_.Put(SliceOf(resources_->snapshot_key), EncodePosition(*new_snapshot_position_));
    }
    if (!positioned.ok()) return ToError(positioned, name_);
    if (std::exchange(flush_due_, false)) {  // restored users are in no log
      const rocksdb::Status flushed = db_->Flush({});
      if (!flushed.ok()) return ToError(flushed, name_);
    }
    const rocksdb::Status written = db_->Write({}, &batch_);  // the log is written, not synced: see the guarantees
    if (!written.ok()) return ToError(written, name_);
    position_ = position;
    snapshot_position_ = new_snapshot_position_;
    for (HotUser* const user : changed_) {
      StateCodec::MarkSaved(user->state);
      hot_.MarkClean(user);
    }
    changed_.clear();
    unsaved_bytes_ = 0;
    Evict();
    return {};
  }

  void Discard() override {
    Settle();
    for (HotUser* const user : changed_) hot_.Erase(user);
    changed_.clear();
    unsaved_bytes_ = 0;
    new_snapshot_position_ = snapshot_position_;
  }

  std::optional<Offset> Position() const override { return position_; }

  void SetHotBytes(size_t bytes) override {
    hot_budget_ = bytes;
    Settle();
  }

  Status ForEach(const std::function<bool(const UserState&)>& visit, std::optional<std::string_view> after) override {
    const std::string past(1, kPastUsers);
    const rocksdb::Slice past_users(past);
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.iterate_upper_bound = &past_users;
    const std::unique_ptr<rocksdb::Iterator> each(db_->NewIterator(options));
    const std::string first = std::string(1, kUserPrefix).append(after.value_or(""));
    for (each->Seek(first); each->Valid(); each->Next()) {
      if (after && each->key() == first) continue;
      UserState user(std::string(View(each->key()).substr(1)), resources_->history);
      const Status decoded = StateCodec::Decode(View(each->value()), user);
      if (!decoded.ok()) return decoded.error().At(Where(user.user_id()));
      if (!user.IsForgotten() && !visit(user)) return {};
    }
    return each->status().ok() ? Status() : ToError(each->status(), name_);
  }

  Result<bool> Scan(std::string& after, size_t limit, const std::function<bool(const StoredUser&)>& visit) override {
    const std::string past(1, kPastUsers);
    const rocksdb::Slice past_users(past);
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.iterate_upper_bound = &past_users;
    const std::unique_ptr<rocksdb::Iterator> each(db_->NewIterator(options));
    each->Seek(SliceOf(UserKey(after)));
    if (!after.empty() && each->Valid() && View(each->key()).substr(1) == after) each->Next();
    for (size_t visited = 0; each->Valid() && visited < limit; ++visited) {
      after = View(each->key()).substr(1);
      const Result<Delta> user = DecodeDelta(View(each->value()));
      if (!user.ok()) return user.error().At(Where(after));
      const bool go_on = visit({after, View(each->value()), user->applied_offset, user->forgotten()});
      each->Next();
      if (!go_on) break;
    }
    if (!each->status().ok()) return ToError(each->status(), name_);
    return each->Valid();
  }

  Status Restore(std::span<const StoredUser> users) override {
    batch_.Clear();
    for (const StoredUser& user : users) {
      const rocksdb::Slice key = SliceOf(UserKey(user.id));
      const rocksdb::Status added = user.bytes.empty() ? batch_.Delete(key) : batch_.Put(key, SliceOf(user.bytes));
      if (!added.ok()) return ToError(added, name_);
    }
    // Without a log: half a restore is begun again anyway.
    rocksdb::WriteOptions options;
    options.disableWAL = true;
    flush_due_ = true;
    const rocksdb::Status written = db_->Write(options, &batch_);
    return written.ok() ? Status() : ToError(written, name_);
  }

  std::optional<Offset> SnapshotPosition() const override { return new_snapshot_position_; }
  void SetSnapshotPosition(Offset position) override { new_snapshot_position_ = position; }

  Offset SnapshottedUpTo() const override { return std::min(other_snapshots_, snapshot_position_.value_or(Offset{0})); }

  Status DropForgotten(std::span<const std::string> users) override {
    batch_.Clear();
    for (const std::string& user : users) {
      const rocksdb::Status added = batch_.Delete(SliceOf(UserKey(user)));
      if (!added.ok()) return ToError(added, name_);
    }
    const rocksdb::Status written = db_->Write({}, &batch_);
    return written.ok() ? Status() : ToError(written, name_);
  }

  StoreStats Stats() const override {
    StoreStats stats;
    stats.hot_users = static_cast<int64_t>(hot_.size());
    stats.hot_bytes = static_cast<int64_t>(hot_.bytes());
    stats.unsaved_users = std::ssize(changed_);
    stats.unsaved_bytes = static_cast<int64_t>(unsaved_bytes_);
    stats.hits = hits_;
    stats.misses = misses_;
    stats.evictions = evictions_;
    stats.estimated_users = Property("rocksdb.estimate-num-keys");
    stats.disk_bytes = Property("rocksdb.total-sst-files-size");
    return stats;
  }

  DiskStats Disk() const override {
    DiskStats stats;
    stats.table_bytes = Property("rocksdb.live-sst-files-size");
    stats.memtable_bytes = Property("rocksdb.size-all-mem-tables");
    stats.pending_compaction_bytes = Property("rocksdb.estimate-pending-compaction-bytes");
    stats.stalled = Property("rocksdb.is-write-stopped") > 0 || Property("rocksdb.actual-delayed-write-rate") > 0;
    stats.block_cache_bytes = Property("rocksdb.block-cache-usage");
    std::map<std::string, std::string> totals;  // kept without rocksdb::Statistics, which every write would pay for
    if (db_->GetMapProperty(rocksdb::DB::Properties::kDBStats, &totals)) {
      stats.stall_us = std::strtoll(totals["db.user_write_stall_micros"].c_str(), nullptr, 10);
    }
    return stats;
  }

 private:
  Result<std::optional<Offset>> ReadPosition(std::string_view key, const char* what) {
    std::string bytes;
    const rocksdb::Status status = db_->Get({}, SliceOf(key), &bytes);
    if (status.IsNotFound()) return std::optional<Offset>();
    if (!status.ok()) return ToError(status, name_ + what);
    const Result<Offset> position = DecodePosition(bytes);
    if (!position.ok()) return position.error().At(name_ + what);
    return std::optional<Offset>(*position);
  }

  // Of the places that snapshots of this store went to before: a deployment may go back to them.
  Status ReadOtherSnapshots() {
    const std::unique_ptr<rocksdb::Iterator> each(db_->NewIterator({}));
    for (each->Seek(SliceOf(kSnapshotKey)); each->Valid() && View(each->key()).starts_with(kSnapshotKey);
         each->Next()) {
      if (View(each->key()) == resources_->snapshot_key) continue;
      const Result<Offset> position = DecodePosition(View(each->value()));
      if (!position.ok()) return position.error().At(name_ + ": snapshot position");
      other_snapshots_ = std::min(other_snapshots_, *position);
      has_snapshots_ = true;
    }
    has_snapshots_ |= resources_->snapshot_key != kSnapshotKey;
    return each->status().ok() ? Status() : ToError(each->status(), name_);
  }

  // A user who was found; null: forgotten.
  UserState* Known(HotUser* user) {
    loaded_.push_back(user);
    return user->state.IsForgotten() ? nullptr : &user->state;
  }

  // Takes note of what the caller changed through the pointers that end now, and evicts what went over the budget.
  void Settle() {
    for (HotUser* const user : loaded_) {
      const size_t before = user->changed ? user->counted_bytes : 0;
      hot_.Recount(user);
      if (!user->changed && StateCodec::HasUnsaved(user->state)) {
        hot_.MarkChanged(user);
        changed_.push_back(user);
      }
      if (user->changed) unsaved_bytes_ += user->counted_bytes - before;
    }
    loaded_.clear();
    Evict();
  }

  void Evict() { evictions_ += static_cast<int64_t>(hot_.EvictTo(hot_budget_)); }

  // Reads the users of missing_, of which nothing remains where that fails.
  Status ReadMissing() {
    if (missing_.empty()) return {};
    const size_t count = missing_.size();
    keys_.resize(std::max(keys_.size(), count));
    slices_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      keys_[i] = UserKey(missing_[i]->state.user_id());
      slices_[i] = SliceOf(keys_[i]);
    }
    std::vector<rocksdb::PinnableSlice> values(count);
    statuses_.resize(count);
    db_->MultiGet({}, db_->DefaultColumnFamily(), count, slices_.data(), values.data(), statuses_.data());
    Status read;
    for (size_t i = 0; i < count && read.ok(); ++i) {
      if (!statuses_[i].IsNotFound()) read = TakeIn(statuses_[i], values[i], missing_[i]->state);
    }
    if (!read.ok()) {
      loaded_.clear();
      for (HotUser* const user : missing_) hot_.Erase(user);
    }
    return read;
  }

  Status TakeIn(const rocksdb::Status& status, const rocksdb::Slice& value, UserState& user) const {
    if (!status.ok()) return ToError(status, Where(user.user_id()));
    const Status decoded = StateCodec::Decode(View(value), user);
    return decoded.ok() ? decoded : decoded.error().At(Where(user.user_id()));
  }

  std::string Where(const std::string& user) const { return name_ + ": user \"" + user + "\""; }

  // Valid until the next call.
  const std::string& UserKey(std::string_view id) {
    key_.assign(1, kUserPrefix);
    return key_.append(id);
  }

  int64_t Property(const char* name) const {
    uint64_t value = 0;
    return db_->GetIntProperty(name, &value) ? static_cast<int64_t>(value) : 0;
  }

  const std::shared_ptr<void> hold_;
  const std::shared_ptr<const RocksDbResources> resources_;
  const std::unique_ptr<rocksdb::DB> db_;
  const std::string name_;  // for messages: the partition's folder
  const std::shared_ptr<MarkKeeper> mark_;
  HotUsers hot_;
  size_t hot_budget_;
  std::vector<HotUser*> loaded_;   // what the caller holds pointers to
  std::vector<HotUser*> changed_;  // since the last Apply(), as far as Settle() knows
  size_t unsaved_bytes_ = 0;
  std::optional<Offset> position_;
  std::optional<Offset> snapshot_position_;
  std::optional<Offset> new_snapshot_position_;                  // not applied yet
  bool flush_due_ = false;                                       // Restore() wrote what is in no log
  bool has_snapshots_ = false;                                   // they go somewhere, or went
  Offset other_snapshots_{std::numeric_limits<int64_t>::max()};  // the oldest position of those that went elsewhere
  int64_t hits_ = 0;
  int64_t misses_ = 0;
  int64_t evictions_ = 0;

  // Memory that calls use again.
  rocksdb::WriteBatch batch_;
  std::string key_;
  std::string value_;
  std::vector<uint64_t> hashes_;
  std::vector<UserState*> states_;
  std::vector<HotUser*> missing_;
  std::vector<std::string> keys_;
  std::vector<rocksdb::Slice> slices_;
  std::vector<rocksdb::Status> statuses_;
};

}  // namespace

Status CheckRocksDbOptions(const std::string& rocksdb_options) {
  StateOptions options;
  options.rocksdb_options = rocksdb_options;
  const auto resources = MakeRocksDbResources(options);
  return resources.ok() ? Status() : Status(resources.error());
}

Result<std::shared_ptr<const RocksDbResources>> MakeRocksDbResources(const StateOptions& options) {
  auto resources = std::make_shared<RocksDbResources>();
  resources->history = options.history;
  resources->hot_cache_bytes = options.hot_cache_bytes;
  resources->snapshot_key = std::string(kSnapshotKey) + options.snapshots;
  resources->application = options.application;
  resources->read_only = options.read_only;
  rocksdb::ConfigOptions strict;
  strict.ignore_unsupported_options = false;
  const rocksdb::Status parsed =
      rocksdb::GetOptionsFromString(strict, DefaultOptions(options), options.rocksdb_options, &resources->options);
  if (!parsed.ok()) {
    return Error(ErrorCode::kInvalidArgument, "state.rocksdb_options: \"" + options.rocksdb_options +
                                                  "\": expected RocksDB's \"name=value;...\": " + parsed.ToString());
  }
  // RocksDB ends the process where a memtable is full before anything is in it. It takes no buffers below 64 KiB.
  rocksdb::Options& settled = resources->options;
  settled.arena_block_size =
      std::min(settled.arena_block_size, std::max(settled.write_buffer_size, size_t{64} << 10) / 4);
  return std::shared_ptr<const RocksDbResources>(std::move(resources));
}

Result<std::unique_ptr<UserStateStore>> OpenRocksDbStore(const std::filesystem::path& path, PartitionId partition,
                                                         std::shared_ptr<const RocksDbResources> resources,
                                                         std::shared_ptr<void> hold) {
  const std::string owner = OwnerOf(partition, resources->application);
  const auto mark = std::make_shared<MarkKeeper>(owner);
  rocksdb::DB* opened = nullptr;
  rocksdb::Options options = resources->options;
  ASSIGN_OR_RETURN(options.create_if_missing, CheckPartitionFolder(path, owner));
  if (!resources->read_only) {
    options.info_log = std::make_shared<LogFile>(path, options.info_log_level);
    options.listeners.push_back(mark);
  }
  const rocksdb::Status status = resources->read_only ? rocksdb::DB::OpenForReadOnly(options, path.string(), &opened)
                                                      : rocksdb::DB::Open(options, path.string(), &opened);
  std::unique_ptr<rocksdb::DB> db(opened);
  std::string name = "state partition " + std::to_string(Raw(partition)) + " (" + path.string() + ")";
  if (!status.ok()) return ToError(status, name);
  if (!resources->read_only) RETURN_IF_ERROR(mark->Renew(*db));
  auto store =
      std::make_unique<RocksDbStore>(std::move(db), std::move(name), std::move(resources), mark, std::move(hold));
  RETURN_IF_ERROR(store->ReadPositions());
  return std::unique_ptr<UserStateStore>(std::move(store));
}

}  // namespace freshet
