// In-memory source and sink: shipped fakes for tests and embedding, under the same contracts as the real ones.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ingest/event_source.h"
#include "ingest/record_sink.h"

namespace freshet {

// One topic in memory; `partitions[p]` holds the values of partition p by offset. Keeps the committed positions.
struct MemoryTopic {
  std::string name = "memory";
  std::vector<std::vector<std::string>> partitions;
  std::map<PartitionId, Offset> committed;
  std::vector<std::vector<std::string>> keys;        // of the values, in the same places; empty: they have none
  std::set<std::pair<int32_t, int64_t>> tombstones;  // partition and offset: records that have no value
};

// Delivers all partitions of `topic`, round robin, and then ends. `topic` outlives the source.
class MemorySource : public EventSource {
 public:
  explicit MemorySource(MemoryTopic& topic) : topic_(topic) {}
  Status Open(AssignmentListener& listener) override;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  Status Rewind() override;
  Status Close() override;

 private:
  Status Assign();
  Status Revoke(bool lost);

  MemoryTopic& topic_;
  AssignmentListener* listener_ = nullptr;
  std::vector<int64_t> next_;  // by partition: the offset to deliver next
  size_t turn_ = 0;            // partition whose turn it is
  bool assigned_ = false;
};

// Keeps what was committed; what was published after the last Commit() is pending.
class MemorySink : public RecordSink {
 public:
  struct Kept {
    Stream stream;
    std::string key;
    std::string value;
    std::vector<std::pair<std::string, std::string>> headers;
    PartitionId partition;
    bool tombstone = false;
  };

  Status Publish(std::span<const OutputRecord> records) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  Status Abort() override {
    pending_.clear();
    return {};
  }

  const std::vector<Kept>& committed() const { return committed_; }

 private:
  std::vector<Kept> pending_;
  std::vector<Kept> committed_;
};

}  // namespace freshet
