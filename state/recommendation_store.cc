// Keys: 'u' user -> sequence number (int64, little-endian) and the record; 'p' partition -> position;
// 'f' hash of a user that was removed -> offset of the newest tombstone; 'm' name -> what the directory is.
#include "state/recommendation_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <utility>

#include "core/hash.h"
#include "state/codec.h"

namespace freshet {
namespace {

constexpr char kTopicKey[] = "mtopic";
constexpr char kInstanceKey[] = "minstance";

std::string UserKey(std::string_view user) { return std::string(1, 'u').append(user); }
std::string RemovedKey(std::string_view user) {
  const uint64_t hash = StableHash(user);
  return std::string(1, 'f').append(reinterpret_cast<const char*>(&hash), sizeof hash);
}
std::string PositionKey(PartitionId partition) { return "p" + std::to_string(Raw(partition)); }

Error ToError(const rocksdb::Status& status, const std::filesystem::path& directory) {
  const bool held = status.IsIOError() && status.ToString().find("lock") != std::string::npos;
  return Error(held                    ? ErrorCode::kUnavailable
               : status.IsCorruption() ? ErrorCode::kCorrupt
                                       : ErrorCode::kIo,
               "serve.directory " + directory.string() + ": " + (held ? "another process has it open: " : "") +
                   status.ToString());
}

rocksdb::Options OptionsFor(const RecommendationStoreOptions& options) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;  // so that the cache's size bounds them, too
  rocksdb::Options rocks;
  rocks.create_if_missing = true;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  rocks.write_buffer_size = options.write_buffer_bytes;
  rocks.level_compaction_dynamic_level_bytes = true;
  rocks.max_background_jobs = 2;
  rocks.max_open_files = 256;
  rocks.info_log_level = rocksdb::WARN_LEVEL;
  rocks.keep_log_file_num = 2;
  return rocks;
}

class RocksDbRecommendations final : public RecommendationStore {
 public:
  RocksDbRecommendations(std::unique_ptr<rocksdb::DB> db, std::filesystem::path directory)
      : db_(std::move(db)), directory_(std::move(directory)) {}

  // Of `topic`, and with what was read of it so far.
  Status Begin(const std::string& topic) {
    ASSIGN_OR_RETURN(const auto found, Read(kTopicKey));
    if (found && *found != topic) {
      return Error(ErrorCode::kInvalidArgument, "serve.directory " + directory_.string() + ": holds records of topic " +
                                                    *found + ", expected those of " + topic +
                                                    ": name another directory, or delete this one");
    }
    ASSIGN_OR_RETURN(const auto instance, Read(kInstanceKey));
    std::random_device random;
    char fresh[9];
    std::snprintf(fresh, sizeof fresh, "%08x", random());
    instance_ = instance.value_or(fresh);
    RETURN_IF_ERROR(Checked(db_->Put({}, kTopicKey, topic)));
    RETURN_IF_ERROR(Checked(db_->Put({}, kInstanceKey, instance_)));
    return ReadPositions();
  }

  Status Put(std::string_view user, int64_t sequence_number, std::string_view record) override {
    value_.assign(reinterpret_cast<const char*>(&sequence_number), sizeof sequence_number);
    value_.append(record);
    return Checked(changes_.Put(UserKey(user), value_));
  }

  Status Remove(std::string_view user, Offset tombstone) override {
    RETURN_IF_ERROR(Checked(changes_.Delete(UserKey(user))));
    return Checked(changes_.Put(RemovedKey(user), EncodePosition(tombstone)));
  }

  Status Advance(PartitionId partition, Offset next) override {
    reached_[partition] = next;
    return Checked(changes_.Put(PositionKey(partition), EncodePosition(next)));
  }

  Status Commit() override {
    RETURN_IF_ERROR(Checked(db_->Write({}, &changes_)));  // in the log, not synced: what is lost is read again
    changes_.Clear();
    for (const auto& [partition, next] : reached_) positions_[partition] = next;
    reached_.clear();
    return {};
  }

  std::optional<Offset> Position(PartitionId partition) const override {
    const auto found = positions_.find(partition);
    return found == positions_.end() ? std::nullopt : std::optional(found->second);
  }

  Result<std::optional<StoredRecommendation>> Find(std::string_view user) const override {
    // First: a record with another's id would be taken for that one, one with an id of its own only is sent again.
    ASSIGN_OR_RETURN(const auto removed, Read(RemovedKey(user)));
    ASSIGN_OR_RETURN(auto bytes, Read(UserKey(user)));
    if (!bytes) return std::optional<StoredRecommendation>();
    StoredRecommendation found;
    if (bytes->size() < sizeof found.sequence_number) {
      return Error(ErrorCode::kCorrupt, "serve.directory " + directory_.string() + ": a user's record is cut short");
    }
    std::memcpy(&found.sequence_number, bytes->data(), sizeof found.sequence_number);
    found.record = bytes->substr(sizeof found.sequence_number);
    found.id = std::to_string(found.sequence_number);
    if (removed) {
      const auto tombstone = DecodePosition(*removed);
      if (!tombstone.ok()) return tombstone.error().At("serve.directory " + directory_.string());
      found.id += "-" + std::to_string(Raw(*tombstone));
    }
    return std::optional(std::move(found));
  }

  uint64_t table_bytes() const override {
    uint64_t bytes = 0;
    db_->GetIntProperty(rocksdb::DB::Properties::kLiveSstFilesSize, &bytes);
    return bytes;
  }

  const std::string& instance() const override { return instance_; }

 private:
  Result<std::optional<std::string>> Read(const std::string& key) const {
    std::string value;
    const rocksdb::Status status = db_->Get({}, key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return ToError(status, directory_);
    return std::optional(std::move(value));
  }

  Status ReadPositions() {
    const std::unique_ptr<rocksdb::Iterator> each(db_->NewIterator({}));
    for (each->Seek("p"); each->Valid() && each->key().starts_with("p"); each->Next()) {
      const auto position = DecodePosition(each->value().ToStringView());
      if (!position.ok()) return position.error().At("serve.directory " + directory_.string());
      positions_[PartitionId{std::atoi(each->key().ToString().c_str() + 1)}] = *position;
    }
    return Checked(each->status());
  }

  Status Checked(const rocksdb::Status& status) const {
    return status.ok() ? Status() : Status(ToError(status, directory_));
  }

  const std::unique_ptr<rocksdb::DB> db_;
  const std::filesystem::path directory_;
  std::string instance_;
  std::map<PartitionId, Offset> positions_;

  // Of the next Commit().
  rocksdb::WriteBatch changes_;
  std::map<PartitionId, Offset> reached_;
  std::string value_;  // kept for its memory
};

}  // namespace

Result<std::unique_ptr<RecommendationStore>> RecommendationStore::Open(const RecommendationStoreOptions& options) {
  std::error_code failure;
  std::filesystem::create_directories(options.directory, failure);
  if (failure) {
    return Error(ErrorCode::kIo, "serve.directory " + options.directory.string() + ": " + failure.message());
  }
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(OptionsFor(options), options.directory.string(), &opened);
  if (!status.ok()) return ToError(status, options.directory);
  auto store = std::make_unique<RocksDbRecommendations>(std::unique_ptr<rocksdb::DB>(opened), options.directory);
  RETURN_IF_ERROR(store->Begin(options.topic));
  return std::unique_ptr<RecommendationStore>(std::move(store));
}

}  // namespace freshet
