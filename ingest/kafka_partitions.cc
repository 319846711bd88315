#include "ingest/kafka_partitions.h"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

#include "ingest/kafka_common.h"
#include "ingest/timestamp.h"

namespace freshet::kafka {
namespace {

// "No committed offset" and an end before our position can be a stale answer (a coordinator that still loads, a new
// leader): they are believed only after so many equal answers.
constexpr int kAnswersToBelieve = 3;
constexpr std::chrono::milliseconds kBetweenAnswers{200};

constexpr std::string_view kCommitMark = "freshet from ";

std::optional<Offset> OriginIn(std::string_view mark) {
  if (!mark.starts_with(kCommitMark)) return std::nullopt;
  mark.remove_prefix(kCommitMark.size());
  int64_t offset = 0;
  const auto read = std::from_chars(mark.data(), mark.data() + mark.size(), offset);
  if (read.ec != std::errc() || read.ptr != mark.data() + mark.size()) return std::nullopt;
  return Offset{offset};
}

}  // namespace

Result<Start> ParseStart(const std::string& text, const std::string& key) {
  if (text == "earliest") return Start{Start::Kind::kEarliest};
  if (text == "latest") return Start{Start::Kind::kLatest};
  if (const auto time_ms = ParseIso8601Ms(text)) return Start{Start::Kind::kTime, *time_ms};
  return Error(ErrorCode::kInvalidArgument, key + ": \"" + text + "\": expected earliest, latest, or an ISO 8601 time");
}

Offset StartOf(const Facts& facts) {
  const Offset start = facts.committed ? std::min(facts.start, *facts.committed) : facts.start;
  return std::clamp(start, facts.range.begin, facts.range.end);
}

void PartitionListDeleter::operator()(rd_kafka_topic_partition_list_s* list) const {
  rd_kafka_topic_partition_list_destroy(list);
}

PartitionList MakePartitionList() { return PartitionList(rd_kafka_topic_partition_list_new(8)); }

rd_kafka_topic_partition_s* AddPartition(const PartitionList& list, const std::string& topic, PartitionId partition) {
  return rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), Raw(partition));
}

void AddCommit(const PartitionList& list, const std::string& topic, PartitionId partition, Offset next, Offset origin) {
  rd_kafka_topic_partition_t* const entry = AddPartition(list, topic, partition);
  const std::string mark = std::string(kCommitMark) + std::to_string(Raw(origin));
  entry->offset = Raw(next);
  entry->metadata = ::strdup(mark.c_str());  // the list's now
  entry->metadata_size = mark.size();
}

std::string PartitionLookup::Name(PartitionId partition) const {
  return topic_ + "[" + std::to_string(Raw(partition)) + "]";
}

Result<std::vector<Facts>> PartitionLookup::Ask(const std::vector<PartitionId>& partitions) const {
  std::vector<Facts> all;
  for (const PartitionId partition : partitions) {
    ASSIGN_OR_RETURN(const Facts facts, AskRange(partition));
    all.push_back(facts);
  }
  for (int answer = 0; answer < kAnswersToBelieve; ++answer) {
    if (answer > 0) std::this_thread::sleep_for(kBetweenAnswers);
    RETURN_IF_ERROR(AskCommitted(all));
    if (std::all_of(all.begin(), all.end(), [](const Facts& facts) { return facts.committed.has_value(); })) break;
  }
  return all;
}

Result<Facts> PartitionLookup::AskRange(PartitionId partition) const {
  ASSIGN_OR_RETURN(const Range range, LogRange(partition));
  ASSIGN_OR_RETURN(const Offset start, StartIn(partition, range));
  return Facts{.partition = partition, .range = range, .start = start};
}

Status PartitionLookup::Confirm(Facts& facts, std::optional<Offset> position) const {
  for (int answer = 1; answer < kAnswersToBelieve && position && *position > facts.range.end; ++answer) {
    std::this_thread::sleep_for(kBetweenAnswers);
    ASSIGN_OR_RETURN(facts.range, LogRange(facts.partition));
  }
  return {};
}

Status PartitionLookup::AskCommitted(std::vector<Facts>& all) const {
  if (all.empty()) return {};
  const PartitionList list = MakePartitionList();
  for (const Facts& facts : all) AddPartition(list, topic_, facts.partition);
  const auto code = rd_kafka_committed(client_, list.get(), kRequestMs);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError("committed offsets", code);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& answer = list->elems[i];
    if (answer.err != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(Name(all[i].partition), answer.err);
    if (answer.offset < 0) continue;
    all[i].committed = Offset{answer.offset};
    all[i].origin = OriginIn({static_cast<const char*>(answer.metadata), answer.metadata_size});
    all[i].committed_by_us = all[i].origin.has_value();
  }
  return {};
}

Result<Range> PartitionLookup::LogRange(PartitionId partition) const {
  int64_t low = 0;
  int64_t high = 0;
  const auto code = rd_kafka_query_watermark_offsets(client_, topic_.c_str(), Raw(partition), &low, &high, kRequestMs);
  if (code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {  // so new that this client has not heard of it
    const rd_kafka_metadata_t* metadata = nullptr;
    if (rd_kafka_metadata(client_, 0, nullptr, &metadata, kRequestMs) == RD_KAFKA_RESP_ERR_NO_ERROR) {
      rd_kafka_metadata_destroy(metadata);
    }
    return Error(ErrorCode::kUnavailable, "kafka: " + Name(partition) + ": not known yet");
  }
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(Name(partition), code);
  return Range{Offset{low}, Offset{high}};
}

Result<Offset> PartitionLookup::StartIn(PartitionId partition, const Range& range) const {
  if (start_.kind == Start::Kind::kEarliest) return range.begin;
  if (start_.kind == Start::Kind::kLatest) return range.end;
  const PartitionList list = MakePartitionList();
  AddPartition(list, topic_, partition)->offset = start_.time_ms;
  const auto code = rd_kafka_offsets_for_times(client_, list.get(), kRequestMs);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(Name(partition), code);
  const auto& answer = list->elems[0];
  if (answer.err != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(Name(partition), answer.err);
  return answer.offset >= 0 ? Offset{answer.offset} : range.end;
}

}  // namespace freshet::kafka
