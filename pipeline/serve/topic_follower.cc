#include "pipeline/serve/topic_follower.h"

#include <simdjson.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "ingest/encoder.h"

namespace freshet {
namespace {

constexpr size_t kMaxRecords = 1024;
constexpr std::chrono::milliseconds kWait{100};
constexpr char kPart[] = "topic";

// The record as JSON, in `converted` where it is Protobuf, which does not begin with a brace.
std::string_view AsJson(std::string_view value, std::string& converted) {
  converted.clear();
  return value.starts_with('{') || !RecommendationToJson(value, converted) ? value : converted;
}

// Nothing where the JSON is no recommendation of that user.
std::optional<int64_t> SequenceNumberOf(std::string_view value, std::string_view key) {
  thread_local simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(value.data(), value.size()).get(object) != simdjson::SUCCESS) return std::nullopt;
  std::string_view user;
  int64_t sequence_number = 0;
  simdjson::dom::array items;
  const bool complete = object["user_id"].get(user) == simdjson::SUCCESS &&
                        object["sequence_number"].get(sequence_number) == simdjson::SUCCESS &&
                        object["items"].get(items) == simdjson::SUCCESS;
  return complete && user == key ? std::optional(sequence_number) : std::nullopt;
}

}  // namespace

TopicFollower::TopicFollower(EventSource& source, RecommendationStore& store, RecommendationStreams& streams,
                             TopicRange ends, Readiness& readiness)
    : source_(source), store_(store), streams_(streams), ends_(std::move(ends)), readiness_(readiness) {
  readiness_.NotReady(kPart, "its records up to now are being read");
}

Status TopicFollower::Run(const std::atomic<bool>& stop) {
  RETURN_IF_ERROR(source_.Open(*this));
  RecordBatch batch;
  for (bool behind = true; !stop;) {
    batch.Clear();
    if (const auto polled = source_.Poll(batch, kMaxRecords, kWait); !polled.ok()) return polled.error();
    if (!batch.positions.empty()) {
      RETURN_IF_ERROR(TakeIn(batch));
      streams_.Tell(batch.records);
      RETURN_IF_ERROR(source_.Commit(batch.positions));  // for those who watch the group's lag
    }
    int64_t lag = 0;
    for (const auto& [partition, records] : source_.Lag()) lag += records;
    lag_ = lag;
    if (behind && CaughtUp()) readiness_.Ready(kPart);
    behind = behind && !CaughtUp();
  }
  return source_.Close();
}

Status TopicFollower::TakeIn(const RecordBatch& batch) {
  for (const RawRecord& record : batch.records) RETURN_IF_ERROR(TakeIn(record));
  for (const PartitionPosition& position : batch.positions) {
    RETURN_IF_ERROR(store_.Advance(position.partition, position.next));
  }
  return store_.Commit();
}

Status TopicFollower::TakeIn(const RawRecord& record) {
  thread_local std::string converted;
  const std::string_view value = AsJson(record.value, converted);
  const std::optional<int64_t> sequence_number = SequenceNumberOf(value, record.key);
  if (!record.value.empty() && !sequence_number) {
    LeaveOut(record);
    return {};
  }
  ++records_;
  return sequence_number ? store_.Put(record.key, *sequence_number, value) : store_.Remove(record.key, record.offset);
}

void TopicFollower::LeaveOut(const RawRecord& record) {
  if (bad_records_++ > 0) return;
  spdlog::warn(
      "{}[{}] offset {}: no recommendation of its key's user: expected JSON or Protobuf with that user_id, a "
      "sequence_number and items; it is left out, as any that follow are (freshet_serve_bad_records_total)",
      record.topic, Raw(record.partition), Raw(record.offset));
}

bool TopicFollower::CaughtUp() const {
  return std::all_of(ends_.begin(), ends_.end(), [this](const PartitionRange& range) {
    return range.begin == range.end || store_.Position(range.partition).value_or(Offset{0}) >= range.end;
  });
}

Result<std::optional<Offset>> TopicFollower::OnAssigned(const Assignment& assignment) {
  return store_.Position(assignment.partition);
}

Status TopicFollower::OnRevoked(PartitionId, bool) { return {}; }

}  // namespace freshet
