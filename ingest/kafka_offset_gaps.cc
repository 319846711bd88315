#include "ingest/kafka_offset_gaps.h"

#include <spdlog/spdlog.h>

#include "core/thousands.h"

namespace freshet::kafka {
namespace {

// What resolves a gap, for one start.
constexpr char kRebuild[] = "freshet run ... --set source.on_offset_gap=rebuild (state begins anew)";
constexpr char kRebuildOrAccept[] =
    "freshet run ... --set source.on_offset_gap=rebuild (state begins anew) or =accept (goes on with what is there)";

constexpr char kAnswered[] = "the group's committed offset";
constexpr char kLostState[] = "the beginning of the state, which neither the disk nor a snapshot holds any more,";

}  // namespace

Assignment ToAssignment(const Facts& facts) {
  return {facts.partition, facts.committed, facts.committed_by_us, facts.range.begin};
}

Status OffsetGaps::CheckCommitted(Facts& facts) const {
  RETURN_IF_ERROR(lookup_.Confirm(facts, facts.committed));
  if (!facts.committed || *facts.committed <= facts.range.end) return {};
  const std::string problem = lookup_.Name(facts.partition) + ": input ends at offset " +
                              std::to_string(Raw(facts.range.end)) + ", the group's committed offset is " +
                              std::to_string(Raw(*facts.committed)) +
                              ": the topic was recreated, or the offset was reset from outside";
  if (options_.on_offset_gap == OffsetGapPolicy::kFail) {
    return Error(ErrorCode::kNeedsDecision, problem + ". Decide with: " + kRebuildOrAccept);
  }
  spdlog::warn("{}; it counts as not committed", problem);
  facts.committed.reset();
  facts.origin.reset();
  return {};
}

Result<OffsetGaps::Beginning> OffsetGaps::Begin(Facts& facts, std::optional<Offset> position) const {
  RETURN_IF_ERROR(lookup_.Confirm(facts, position));
  Offset next = position ? *position : StartOf(facts);
  if (position && facts.committed && !facts.committed_by_us && *facts.committed != *position) {
    ASSIGN_OR_RETURN(next, OverMove(facts, *position));
  }
  const Offset answered = facts.committed.value_or(facts.range.begin);
  const Offset owed = position ? next : facts.origin ? std::min(*facts.origin, answered) : answered;
  if (facts.range.Holds(owed)) return Beginning{next, std::min(facts.origin.value_or(next), next)};
  ASSIGN_OR_RETURN(next, OverGap(facts, owed, position ? "state" : owed < answered ? kLostState : kAnswered));
  return Beginning{next, next};
}

Result<OffsetGaps::Continued> OffsetGaps::Continue(PartitionId partition, Offset next) const {
  ASSIGN_OR_RETURN(Facts facts, lookup_.AskRange(partition));
  RETURN_IF_ERROR(lookup_.Confirm(facts, next));
  if (facts.range.Holds(next)) return Continued{next};
  // What was delivered is answered, as long as it is the same log.
  if (next < facts.range.begin) facts.committed = next;
  ASSIGN_OR_RETURN(const Offset begin, OverGap(facts, next, "state"));
  return Continued{begin, options_.on_offset_gap == OffsetGapPolicy::kRebuild};
}

// Where reading goes on when the input does not hold `position`, which is `whose`: source.on_offset_gap decides.
Result<Offset> OffsetGaps::OverGap(Facts facts, Offset position, const std::string& whose) const {
  const bool gone = position < facts.range.begin;
  const int64_t events = Raw(facts.range.begin) - Raw(position);
  const std::string problem = lookup_.Name(facts.partition) + ": input " + (gone ? "begins" : "ends") + " at offset " +
                              std::to_string(Raw(gone ? facts.range.begin : facts.range.end)) + ", " + whose +
                              " is at " + std::to_string(Raw(position)) + ": " +
                              (gone ? WithThousands(events) + (events == 1 ? " event is gone" : " events are gone")
                                    : "the topic was recreated or truncated, and its offsets come again");
  const auto policy = options_.on_offset_gap;
  // State takes an offset below its own for a repeat: beyond the end it cannot go on, whatever is accepted.
  if (policy == OffsetGapPolicy::kFail || (policy == OffsetGapPolicy::kAccept && !gone)) {
    return Error(ErrorCode::kNeedsDecision, problem + ". Decide with: " + (gone ? kRebuildOrAccept : kRebuild));
  }
  if (policy == OffsetGapPolicy::kAccept) {
    spdlog::warn("{}; accepted", problem);
    return facts.range.begin;
  }
  spdlog::warn("{}; state is built anew from {}", problem, options_.start);
  if (!gone) facts.committed.reset();  // tells of the answers to another log
  RETURN_IF_ERROR(listener_.OnRebuild(ToAssignment(facts), gone));
  return StartOf(facts);
}

// Where reading goes on when somebody moved the group's offset away from the state's `position`.
Result<Offset> OffsetGaps::OverMove(const Facts& facts, Offset position) const {
  const std::string problem = lookup_.Name(facts.partition) + ": the group's offset was moved from outside to " +
                              std::to_string(Raw(*facts.committed)) + ", state is at " + std::to_string(Raw(position));
  switch (options_.on_offset_gap) {
    case OffsetGapPolicy::kFail:
      return Error(ErrorCode::kNeedsDecision,
                   problem +
                       ". Set source.on_offset_gap to accept (events up to the later one count as answered) or "
                       "rebuild, or move it back: kafka-consumer-groups.sh --bootstrap-server " +
                       options_.bootstrap_servers + " --group " + options_.application + " --topic " +
                       options_.source_topic + ":" + std::to_string(Raw(facts.partition)) +
                       " --reset-offsets --to-offset " + std::to_string(Raw(position)) + " --execute");
    case OffsetGapPolicy::kAccept:
      spdlog::warn("{}; accepted", problem);
      return position;
    case OffsetGapPolicy::kRebuild:
      spdlog::warn("{}; state is built anew from {}", problem, options_.start);
      RETURN_IF_ERROR(listener_.OnRebuild(ToAssignment(facts), true));
  }
  return StartOf(facts);
}

}  // namespace freshet::kafka
