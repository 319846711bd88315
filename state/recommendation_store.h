// The newest recommendation of each user, as `freshet serve` keeps them: the records of the recommendation topic in one
// RocksDB, by user, with the positions up to which they were read.
//
// Threads: Find() and table_bytes() any; the rest one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"

namespace freshet {

struct RecommendationStoreOptions {
  std::filesystem::path directory;  // made where there is none
  std::string topic;                // whose records it holds, and no other's
  size_t block_cache_bytes = size_t{256} << 20;
  size_t write_buffer_bytes = size_t{64} << 20;
};

struct StoredRecommendation {
  int64_t sequence_number = 0;  // of the user's event that it answers
  std::string record;           // as published
  // Tells it from the user's other records: the sequence number; of a user who was removed before, whose numbers begin
  // again, also where that was.
  std::string id;
};

class RecommendationStore {
 public:
  // kInvalidArgument where the directory holds those of another topic; kUnavailable where another process has it open.
  static Result<std::unique_ptr<RecommendationStore>> Open(const RecommendationStoreOptions& options);
  virtual ~RecommendationStore() = default;

  // What the next Commit() does: a record takes the place of its user's, a user goes (but for a hash of the id), a
  // partition was read up to `next`.
  virtual Status Put(std::string_view user, int64_t sequence_number, std::string_view record) = 0;
  virtual Status Remove(std::string_view user, Offset tombstone) = 0;
  virtual Status Advance(PartitionId partition, Offset next) = 0;
  // All of it, or nothing after a crash.
  virtual Status Commit() = 0;

  // Where reading goes on, as committed; absent: nothing of the partition was read yet.
  virtual std::optional<Offset> Position(PartitionId partition) const = 0;

  // Absent: nothing was recommended to the user, or it was removed.
  virtual Result<std::optional<StoredRecommendation>> Find(std::string_view user) const = 0;

  // On disk, in live tables; the log of writes comes on top.
  virtual uint64_t table_bytes() const = 0;

  // Tells this directory from others, and is the same after a restart.
  virtual const std::string& instance() const = 0;
};

}  // namespace freshet
