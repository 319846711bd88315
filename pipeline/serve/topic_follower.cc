#include "pipeline/serve/topic_follower.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace freshet {
namespace {

constexpr size_t kMaxRecords = 1024;
constexpr std::chrono::milliseconds kWait{100};
constexpr char kPart[] = "topic";

}  // namespace

TopicFollower::TopicFollower(EventSource& source, RecommendationStore& store, TopicRange ends, Readiness& readiness)
    : source_(source), store_(store), ends_(std::move(ends)), readiness_(readiness) {
  readiness_.NotReady(kPart, "its records up to now are being read");
}

Status TopicFollower::Run(const std::atomic<bool>& stop) {
  RETURN_IF_ERROR(source_.Open(*this));
  RecordBatch batch;
  for (bool behind = true; !stop;) {
    batch.Clear();
    if (const auto polled = source_.Poll(batch, kMaxRecords, kWait); !polled.ok()) return polled.error();
    if (!batch.positions.empty()) {
      RETURN_IF_ERROR(store_.Apply(batch));
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
