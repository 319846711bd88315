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
    : whose_(std::move(whose)), cycle_(interval / 2), began_(now - cycle_) {}

// Whether a cycle runs.
bool SnapshotWriter::Begin(const UserStateStore& store, TimePoint now) {
  if (up_to_) return true;
  const std::optional<Offset> position = store.Position();
  if (now - began_ < cycle_ || !position || position == store.SnapshotPosition()) return false;
  began_ = now;
  up_to_ = position;
  after_.clear();
  visited_ = 0;
  users_ = static_cast<double>(std::max<int64_t>(store.Stats().estimated_users, 1));
  return true;
}

Status SnapshotWriter::Next(UserStateStore& store, TimePoint now, std::vector<SnapshotRecord>& records) {
  if (!Begin(store, now)) return {};
  // Evenly over four fifths of the cycle: the estimate of the users may be low.
  const std::chrono::duration<double> gone = now - began_;
  const double due = users_ * gone.count() / (std::chrono::duration<double>(cycle_).count() * 0.8) - visited_;
  const auto most = static_cast<size_t>(std::clamp<double>(due, kLeastVisited, kMostVisited));
  const Offset since = store.SnapshotPosition().value_or(Offset{0});
  size_t bytes = 0;
  ASSIGN_OR_RETURN(const bool more, store.Scan(after_, most, [&](const StoredUser& user) {
    ++visited_;
    if (user.applied_offset < since) return true;
    std::string key = SnapshotUserKey(user.id);
    std::string value = EncodeSnapshot(key, user.bytes);
    bytes += key.size() + value.size();
    records.push_back({std::move(key), std::move(value)});
    return bytes < kMostBytes;
  }));
  if (more) return {};
  const Offset position = *std::exchange(up_to_, std::nullopt);
  std::string key = WatermarkKey(whose_);
  std::string value = EncodeSnapshot(key, EncodeWatermark({position, whose_}));
  records.push_back({std::move(key), std::move(value)});
  store.SetSnapshotPosition(position);
  return {};
}

}  // namespace freshet
