// A range of a Kafka topic as an input that ends: for backfills.
//
// What the range means is settled once, as offsets: records of read_committed from `begin` up to `end`. A source reads
//   the partitions p with p mod workers = worker. It joins no group and commits no offsets: positions are the commit
//   log's (ingest/log_files.h), and so reading beside a group that runs disturbs nobody.
// The end is a position, not a record: the last records may be control records, aborted, or compacted away.
// Errors: kNeedsDecision where the topic no longer holds what is left to read (retention, or a topic made anew), with
//   topic, partition and both offsets. Brokers that do not answer are waited for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/log_files.h"

namespace freshet {

// What a range holds of one partition: [begin, end).
struct PartitionRange {
  PartitionId partition{};
  Offset begin{};
  Offset end{};

  bool operator==(const PartitionRange&) const = default;
};
using TopicRange = std::vector<PartitionRange>;  // each partition of the topic, ascending

// "0:12-400 1:0-30", and back: kCorrupt where `text` is something else.
std::string ToText(const TopicRange& range);
Result<TopicRange> ParseTopicRange(const std::string& text);

// Whether `from` and `to` are earliest, latest or an ISO 8601 time, and not the wrong way round.
Status CheckRange(const std::string& from, const std::string& to);

// Settles what `from` and `to` mean now in options.source_topic. A time stands for the first record of that time or
// later, by the records' Kafka timestamps; what lies beyond the last record means its end. Calls `waiting` as
// CheckTopics() does.
Result<TopicRange> SettleRange(const KafkaOptions& options, const std::string& from, const std::string& to,
                               const Waiting& waiting);

// Where it goes on is `commit_log`'s, which outlives the source; null: it begins at the beginning.
Result<std::unique_ptr<EventSource>> MakeKafkaRangeSource(const KafkaOptions& options, const TopicRange& range,
                                                          int worker, int workers, const CommitLog* commit_log);

}  // namespace freshet
