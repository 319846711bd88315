#include "pipeline/commands/replay_range.h"

#include <cstdlib>
#include <optional>

namespace freshet {
namespace {

constexpr char kOffsets[] = "range_offsets";  // a fact of the state directory

const std::string kEarliest = "earliest";
const std::string kLatest = "latest";

}  // namespace

const std::string& RangeFlags::begin() const { return from.empty() ? kEarliest : from; }
const std::string& RangeFlags::end() const { return to.empty() ? kLatest : to; }

std::string NameOf(const RangeFlags& flags, const KafkaOptions& kafka) {
  return "the range " + flags.begin() + " to " + flags.end() + " of Kafka topic " + kafka.source_topic;
}

Result<TopicRange> RangeFor(const RangeFlags& flags, const KafkaOptions& kafka, StateDirectory& states,
                            const Waiting& waiting) {
  if (const std::optional<std::string> settled = states.Fact(kOffsets)) {
    Result<TopicRange> range = ParseTopicRange(*settled);
    if (!range.ok()) return range.error().At(std::string("state.directory: FORMAT: ") + kOffsets);
    return range;
  }
  ASSIGN_OR_RETURN(TopicRange range, SettleRange(kafka, flags.begin(), flags.end(), waiting));
  RETURN_IF_ERROR(states.SetFact(kOffsets, ToText(range)));
  return range;
}

Result<int> InputPartitionsOf(const StateDirectory& states) {
  if (const std::optional<std::string> settled = states.Fact(kOffsets)) {
    ASSIGN_OR_RETURN(const TopicRange range, ParseTopicRange(*settled));
    return static_cast<int>(range.size());
  }
  for (const char* const fact : {"source_partitions", "file_partitions"}) {
    const int partitions = std::atoi(states.Fact(fact).value_or("").c_str());
    if (partitions > 0) return partitions;
  }
  return Error(ErrorCode::kInvalidArgument, "state.directory: holds no state yet");
}

}  // namespace freshet
