#include "ingest/kafka_range.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "ingest/kafka_common.h"
#include "ingest/kafka_partitions.h"

namespace freshet {
namespace {

using kafka::Facts;
using kafka::Start;

// Reads a number and, unless it is the last, the character behind it.
bool Consume(std::string_view& text, char after, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (text.empty()) return after == ' ';
  const bool follows = text.front() == after && text.size() > 1;
  text.remove_prefix(1);
  return follows;
}

}  // namespace

std::string ToText(const TopicRange& range) {
  std::string text;
  for (const PartitionRange& part : range) {
    text += (text.empty() ? "" : " ") + std::to_string(Raw(part.partition)) + ":" + std::to_string(Raw(part.begin)) +
            "-" + std::to_string(Raw(part.end));
  }
  return text;
}

Result<TopicRange> ParseTopicRange(const std::string& text) {
  TopicRange range;
  for (std::string_view rest = text; !rest.empty();) {
    int64_t partition = 0;
    int64_t begin = 0;
    int64_t end = 0;
    if (!Consume(rest, ':', partition) || !Consume(rest, '-', begin) || !Consume(rest, ' ', end) || begin > end ||
        partition > INT32_MAX) {
      range.clear();
      break;
    }
    range.push_back({PartitionId{static_cast<int32_t>(partition)}, Offset{begin}, Offset{end}});
  }
  if (!range.empty()) return range;
  return Error(ErrorCode::kCorrupt, "\"" + text + "\": expected partition:begin-end, and more after a space");
}

Status CheckRange(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const Start begin, kafka::ParseStart(from, "--from"));
  ASSIGN_OR_RETURN(const Start end, kafka::ParseStart(to, "--to"));
  const bool times = begin.kind == Start::Kind::kTime && end.kind == Start::Kind::kTime;
  const bool reversed = begin.kind == Start::Kind::kLatest && end.kind == Start::Kind::kEarliest;
  if (!reversed && !(times && begin.time_ms > end.time_ms)) return {};
  return Error(ErrorCode::kInvalidArgument, "--from " + from + ", --to " + to + ": expected --from before --to");
}

Result<TopicRange> SettleRange(const KafkaOptions& options, const std::string& from, const std::string& to,
                               const Waiting& waiting) {
  ASSIGN_OR_RETURN(const Start begin, kafka::ParseStart(from, "--from"));
  ASSIGN_OR_RETURN(const Start end, kafka::ParseStart(to, "--to"));
  TopicRange range;
  RETURN_IF_ERROR(kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    ASSIGN_OR_RETURN(const int partitions, kafka::PartitionsOf(client, options.source_topic));
    if (partitions == 0) return kafka::MakeError(options.source_topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    range.clear();
    for (PartitionId id{0}; Raw(id) < partitions; id = PartitionId{Raw(id) + 1}) {
      ASSIGN_OR_RETURN(const Facts first, kafka::PartitionLookup(client, options.source_topic, begin).AskRange(id));
      ASSIGN_OR_RETURN(const Facts last, kafka::PartitionLookup(client, options.source_topic, end).AskRange(id));
      const Offset stop = std::min(last.start, last.range.end);  // the log may have grown between the two questions
      range.push_back({id, std::min(first.start, stop), stop});
    }
    return {};
  }));
  return range;
}

}  // namespace freshet
