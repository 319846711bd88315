// What the brokers say of a topic's partitions: what their logs hold, what is committed, where reading starts.
//
// Every question is bounded in time; an error that is kUnavailable means to ask again later. Internal to
// ingest/kafka*.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.h"
#include "core/result.h"

struct rd_kafka_s;
struct rd_kafka_topic_partition_s;
struct rd_kafka_topic_partition_list_s;

namespace freshet::kafka {

// source.start; --from and --to
struct Start {
  enum class Kind { kEarliest, kLatest, kTime } kind = Kind::kEarliest;
  int64_t time_ms = 0;
};
// An error names `key`.
Result<Start> ParseStart(const std::string& text, const std::string& key = "source.start");

// Offsets that a log holds: [begin, end).
struct Range {
  Offset begin{};
  Offset end{};

  bool Holds(Offset position) const { return begin <= position && position <= end; }
};

struct Facts {
  PartitionId partition{};
  std::optional<Offset> committed;
  bool committed_by_us = true;
  std::optional<Offset> origin;  // where the application once began to read, as its own commits say
  Range range;
  Offset start{};  // what source.start means here
};

// Where reading begins without a state: at source.start, but not behind what is owed an answer.
Offset StartOf(const Facts& facts);

struct PartitionListDeleter {
  void operator()(rd_kafka_topic_partition_list_s* list) const;
};
using PartitionList = std::unique_ptr<rd_kafka_topic_partition_list_s, PartitionListDeleter>;
PartitionList MakePartitionList();
rd_kafka_topic_partition_s* AddPartition(const PartitionList& list, const std::string& topic, PartitionId partition);
// A position to commit. Its mark says that it is freshet's own (tools that move a group's offset leave none), and where
// the application began to read this partition.
void AddCommit(const PartitionList& list, const std::string& topic, PartitionId partition, Offset next, Offset origin);

class PartitionLookup {
 public:
  // `client`, a consumer of the group, outlives this.
  PartitionLookup(rd_kafka_s* client, std::string topic, Start start)
      : client_(client), topic_(std::move(topic)), start_(start) {}

  Result<std::vector<Facts>> Ask(const std::vector<PartitionId>& partitions) const;
  // Without `committed`.
  Result<Facts> AskRange(PartitionId partition) const;
  // Asks for the range again where `position` lies beyond its end, until that is believed.
  Status Confirm(Facts& facts, std::optional<Offset> position) const;

  // "topic[partition]"
  std::string Name(PartitionId partition) const;

 private:
  Status AskCommitted(std::vector<Facts>& facts) const;
  Result<Range> LogRange(PartitionId partition) const;
  Result<Offset> StartIn(PartitionId partition, const Range& range) const;

  rd_kafka_s* const client_;
  const std::string topic_;
  const Start start_;
};

}  // namespace freshet::kafka
