#include "pipeline/snapshot_writer.h"

#include <algorithm>
#include <utility>

#include "state/snapshot.h"

namespace freshet {
namespace {

// Bounds of what one commit carries.
constexpr size_t kLeastVisited = 32;
constexpr size_t kMostVisited = 4096;
constexpr size_t kMostBytes = size_t{4} << 20;

}  // namespace

SnapshotWriter::SnapshotWriter(std::string whose, std::chrono::milliseconds interval, TimePoint now)
    : whose_(std::move(whose)), cycle_(interval / 2), cursor_{now - cycle_}, committed_(cursor_) {}

// Whether a cycle runs.
bool SnapshotWriter::Begin(const UserStateStore& store, TimePoint now) {
  if (cursor_.up_to) return true;
  const std::optional<Offset> position = store.Position();
  if (now - cursor_.began < cycle_ || !position || position == store.SnapshotPosition()) return false;
  cursor_.began = now;
  cursor_.up_to = position;
  cursor_.after.clear();
  cursor_.visited = 0;
  cursor_.users = static_cast<double>(std::max<int64_t>(store.Stats().estimated_users, 1));
  return true;
}

Status SnapshotWriter::Next(UserStateStore& store, TimePoint now, std::vector<SnapshotRecord>& records) {
  if (!Begin(store, now)) return {};
  // Evenly over four fifths of the cycle: the estimate of the users may be low.
  const std::chrono::duration<double> gone = now - cursor_.began;
  const double share = gone.count() / (std::chrono::duration<double>(cycle_).count() * 0.8);
  const double due = cursor_.users * share - cursor_.visited;
  const auto most = static_cast<size_t>(std::clamp<double>(due, kLeastVisited, kMostVisited));
  const Offset since = store.SnapshotPosition().value_or(Offset{0});
  const Offset everywhere = store.SnapshottedUpTo();
  std::vector<std::string> settled;
  size_t bytes = 0;
  ASSIGN_OR_RETURN(const bool more, store.Scan(cursor_.after, most, [&](const StoredUser& user) {
    ++cursor_.visited;
    if (user.forgotten && user.applied_offset < everywhere) settled.emplace_back(user.id);
    if (user.applied_offset < since) return true;
    std::string key = SnapshotUserKey(user.id);
    std::string value = user.forgotten ? std::string() : EncodeSnapshot(key, user.bytes);
    bytes += key.size() + value.size();
    records.push_back({std::move(key), std::move(value)});
    return bytes < kMostBytes;
  }));
  if (!settled.empty()) RETURN_IF_ERROR(store.DropForgotten(settled));
  if (more && records.empty()) committed_ = cursor_;  // it told nobody anything that could come to nothing
  if (more) return {};
  const Offset position = *std::exchange(cursor_.up_to, std::nullopt);
  std::string key = WatermarkKey(whose_);
  std::string value = EncodeSnapshot(key, EncodeWatermark({position, whose_}));
  records.push_back({std::move(key), std::move(value)});
  store.SetSnapshotPosition(position);
  return {};
}

bool SnapshotWriter::Committed() {
  committed_ = cursor_;
  return !cursor_.up_to;
}

}  // namespace freshet
