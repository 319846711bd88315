#include <map>
#include <set>

#include "state/codec.h"
#include "state/store.h"

namespace freshet {
namespace {

class MemoryStore final : public UserStateStore {
 public:
  explicit MemoryStore(size_t history) : history_(history) {}

  Result<std::span<UserState* const>> Load(std::span<const std::string_view> users) override {
    Settle();
    for (const std::string_view user : users) {
      ++(live_.contains(user) ? hits_ : misses_);
      ASSIGN_OR_RETURN(UserState * state, Live(user));
      loaded_.push_back(state);
    }
    return std::span<UserState* const>(loaded_);
  }

  Result<UserState*> Find(std::string_view user) override {
    Settle();
    UserState* const unknown = nullptr;
    if (!live_.contains(user) && !applied_.contains(user)) return unknown;
    ASSIGN_OR_RETURN(UserState * state, Live(user));
    loaded_.push_back(state);
    return state->IsForgotten() ? unknown : state;
  }

  UserState* FindHot(std::string_view user) override {
    const Result<UserState*> found = Find(user);
    return found.ok() ? *found : nullptr;
  }

  Status Apply(Offset position) override {
    Settle();
    RETURN_IF_ERROR(CheckAdvance(position_, position));
    for (UserState* const user : changed_) {
      StateCodec::EncodeAll(*user, applied_[user->user_id()]);
      StateCodec::MarkSaved(*user);
    }
    changed_.clear();
    position_ = position;
    snapshot_position_ = new_snapshot_position_;
    return {};
  }

  void Discard() override {
    Settle();
    for (const UserState* const user : changed_) live_.erase(live_.find(user->user_id()));
    changed_.clear();
    new_snapshot_position_ = snapshot_position_;
  }

  std::optional<Offset> Position() const override { return position_; }
  void SetHotBytes(size_t) override { Settle(); }

  Status ForEach(const std::function<bool(const UserState&)>& visit, std::optional<std::string_view> after) override {
    for (auto each = after ? applied_.upper_bound(*after) : applied_.begin(); each != applied_.end(); ++each) {
      UserState user(each->first, history_);
      RETURN_IF_ERROR(StateCodec::Decode(each->second, user));
      if (!user.IsForgotten() && !visit(user)) break;
    }
    return {};
  }

  Result<bool> Scan(std::string& after, size_t limit, const std::function<bool(const StoredUser&)>& visit) override {
    auto next = after.empty() ? applied_.begin() : applied_.upper_bound(after);
    for (size_t visited = 0; next != applied_.end() && visited < limit; ++visited) {
      ASSIGN_OR_RETURN(const Delta user, DecodeDelta(next->second));
      after = next->first;
      const bool go_on = visit({next->first, next->second, user.applied_offset, user.forgotten()});
      ++next;
      if (!go_on) break;
    }
    return next != applied_.end();
  }

  Status Restore(std::span<const StoredUser> users) override {
    for (const StoredUser& user : users) {
      applied_[std::string(user.id)] = user.bytes;
      if (user.bytes.empty()) applied_.erase(std::string(user.id));
    }
    return {};
  }

  std::optional<Offset> SnapshotPosition() const override { return new_snapshot_position_; }
  void SetSnapshotPosition(Offset position) override { new_snapshot_position_ = position; }

  Offset SnapshottedUpTo() const override { return snapshot_position_.value_or(Offset{0}); }
  Status DropForgotten(std::span<const std::string> users) override {
    for (const std::string& user : users) applied_.erase(user);
    return {};
  }

  StoreStats Stats() const override {
    StoreStats stats{.hot_users = std::ssize(live_), .hits = hits_, .misses = misses_};
    stats.unsaved_users = std::ssize(changed_);
    stats.estimated_users = std::ssize(applied_);
    for (const auto& [id, user] : live_) stats.hot_bytes += static_cast<int64_t>(user.Bytes());
    for (const UserState* const user : changed_) stats.unsaved_bytes += static_cast<int64_t>(user->Bytes());
    return stats;
  }

 private:
  // Takes note of what the caller changed through the pointers that end now.
  void Settle() {
    for (UserState* const user : loaded_) {
      if (StateCodec::HasUnsaved(*user)) changed_.insert(user);
    }
    loaded_.clear();
  }

  Result<UserState*> Live(std::string_view id) {
    const auto found = live_.find(id);
    if (found != live_.end()) return &found->second;
    UserState user(std::string(id), history_);
    const auto applied = applied_.find(id);
    if (applied != applied_.end()) RETURN_IF_ERROR(StateCodec::Decode(applied->second, user));
    return &live_.emplace(id, std::move(user)).first->second;
  }

  const size_t history_;
  std::map<std::string, std::string, std::less<>> applied_;  // encoded, so that nobody changes it by a pointer
  std::map<std::string, UserState, std::less<>> live_;
  std::vector<UserState*> loaded_;
  std::set<UserState*> changed_;
  std::optional<Offset> position_;
  std::optional<Offset> snapshot_position_;
  std::optional<Offset> new_snapshot_position_;  // not applied yet
  int64_t hits_ = 0;
  int64_t misses_ = 0;
};

}  // namespace

std::unique_ptr<UserStateStore> MakeMemoryStore(size_t history) { return std::make_unique<MemoryStore>(history); }

}  // namespace freshet
