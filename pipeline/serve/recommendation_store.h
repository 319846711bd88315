// The newest recommendation of each user, as `freshet serve` keeps them: the records of the recommendation topic in one
// RocksDB, by user, with the positions up to which they were read.
//
// What a record replaces: everything of its user that came before it in its partition. A tombstone (no value) removes
// the user.
// Threads: Apply() and Position() one; Find() and the counts any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"
#include "ingest/record.h"

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
};

class RecommendationStore {
 public:
  // kInvalidArgument where the directory holds those of another topic; kUnavailable where another process has it open.
  static Result<std::unique_ptr<RecommendationStore>> Open(const RecommendationStoreOptions& options);
  virtual ~RecommendationStore() = default;

  // Takes in a batch and its positions: all, or nothing after a crash. A value that is no recommendation of its key's
  // user is counted, told of in the log, and left out.
  virtual Status Apply(const RecordBatch& batch) = 0;
  // Where reading goes on; absent: nothing of the partition was read yet.
  virtual std::optional<Offset> Position(PartitionId partition) const = 0;

  // Absent: nothing was recommended to the user, or it was removed.
  virtual Result<std::optional<StoredRecommendation>> Find(std::string_view user) const = 0;

  virtual int64_t records() const = 0;      // taken in since the start
  virtual int64_t bad_records() const = 0;  // left out since the start

  // Tells this directory from others, and is the same after a restart.
  virtual const std::string& instance() const = 0;
};

}  // namespace freshet
