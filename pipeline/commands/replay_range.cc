#include "pipeline/commands/replay_range.h"

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

}  // namespace freshet
