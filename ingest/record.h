// What goes in and out of the processor as bytes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/ids.h"
#include "core/trace_context.h"

namespace freshet {

// Partition of a record that is spread by its user, which only decoding tells (log files; see PartitionOfUser in
// ingest/log_files.h).
inline constexpr PartitionId kPartitionOfUser{-1};

// One record of the input, undecoded. Views live as long as the batch.
struct RawRecord {
  std::string_view topic;   // Kafka topic, or the log file's name
  PartitionId partition{};  // whose state and position it belongs to
  Offset offset{};          // its place in that partition's log; grows, and may leave holes
  std::string_view key;
  std::string_view value;
  // What a reader is told about the origin: equal to partition/offset for Kafka; 0 and the ordinal in the file for log
  // files.
  PartitionId shown_partition{};
  Offset shown_offset{};
  std::string_view header;     // CSV/TSV files: the file's header line; else empty
  int64_t oversize_bytes = 0;  // > 0: the record has this many bytes and `value` only its beginning
  // Not empty: the input broke off here (a truncated or damaged compressed file); says where. `value` is what is left.
  std::string_view damage;
  TraceContext trace = {};  // of its headers, as far as it is valid; Kafka only

  // A key and no value, which is not an empty one: its user is to be forgotten. Log files have no such records.
  bool IsTombstone() const { return value.data() == nullptr && !key.empty(); }
};

// Where consumption of a partition goes on.
struct PartitionPosition {
  PartitionId partition{};
  Offset next{};  // offset of the next record to consume

  bool operator==(const PartitionPosition&) const = default;
};

// Records of one micro-batch and the memory that they point into.
struct RecordBatch {
  std::vector<RawRecord> records;
  std::vector<PartitionPosition> positions;  // once these records are done; one entry for each partition that advanced
  Arena arena;                               // also for what decoding needs to keep

  void Clear() {
    records.clear();
    positions.clear();
    arena.Reset();
  }
};

enum class Stream { kRecommendations, kDeadLetters, kSnapshots };

// One record of the output. The sink copies what it keeps before Publish() returns.
struct OutputRecord {
  Stream stream = Stream::kRecommendations;
  std::string_view key;
  std::string_view value;                                    // without data: a tombstone
  std::vector<std::pair<std::string, std::string>> headers;  // dead letters only
  PartitionId partition{-1};                                 // snapshots only; the others go by their key
  TraceContext trace = {};                                   // recommendations only: of the event that caused it
};

}  // namespace freshet
