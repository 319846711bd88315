#include "state/user_state.h"

#include "core/fail_point.h"

namespace freshet {
namespace {

// What glibc's allocator adds to a block of memory: its header, and rounding up to 16.
constexpr size_t kAllocationBytes = 16;

template <typename T>
size_t HeapBytes(const std::vector<T>& values) {
  return values.capacity() == 0 ? 0 : values.capacity() * sizeof(T) + kAllocationBytes;
}

size_t HeapBytes(const std::string& text) {
  static const size_t kInline = std::string().capacity();
  return text.capacity() <= kInline ? 0 : text.capacity() + 1 + kAllocationBytes;
}

// How many tokens beyond `history` gather before they are dropped: an append then moves, on average, a few tokens.
size_t Slack(size_t history) { return std::max<size_t>(history / 4, 16); }

// Doubles like push_back() would, but not past `limit`, which the caller never exceeds.
template <typename T>
void PushBounded(std::vector<T>& values, const T& value, size_t limit) {
  if (values.size() == values.capacity()) values.reserve(std::min(std::max<size_t>(4, 2 * values.size()), limit));
  values.push_back(value);
}

}  // namespace

void Profile::Add(int64_t time_ms) {
  // The difference as unsigned: any two int64_t are allowed.
  const bool new_session =
      events == 0 || (time_ms > last_time_ms && static_cast<uint64_t>(time_ms) - static_cast<uint64_t>(last_time_ms) >
                                                    static_cast<uint64_t>(kSessionGapMs));
  if (events == 0) first_time_ms = time_ms;
  if (new_session) {
    ++sessions;
    session_start_ms = time_ms;
    session_events = 0;
  }
  ++events;
  ++session_events;
  last_time_ms = time_ms;
}

void RecentIds::Add(EventIdHash id) {
  constexpr size_t kLimit = kKept + 16;
  if (ids_.size() >= kLimit) ids_.erase(ids_.begin(), ids_.end() - kKept);
  PushBounded(ids_, id, kLimit);
}

size_t RecentIds::Bytes() const { return HeapBytes(ids_); }

Appended UserState::Append(const Token& token, Offset offset, ItemRow row, EventIdHash id) {
  if (offset <= applied_offset_ && !Mutated("ignore_applied_offset")) return Appended::kRepeat;
  if (id != kNoEventId) {
    if (recent_ids_.Contains(id)) return Appended::kDuplicate;
    recent_ids_.Add(id);
    ++unsaved_ids_;
  }
  const size_t limit = history_ + Slack(history_);
  if (tokens_.size() >= limit) Trim();
  PushBounded(tokens_, token, limit);
  if (rows_model_ != ModelTag{}) PushBounded(item_rows_, row, limit);
  ++unsaved_;
  applied_offset_ = offset;
  profile_.Add(token.time_ms);
  return Appended::kTaken;
}

bool UserState::Forget(Offset offset) {
  if (offset <= applied_offset_ && !Mutated("ignore_applied_offset")) return false;
  *this = UserState(std::move(user_id_), history_);
  applied_offset_ = offset;
  unsaved_forget_ = true;
  return true;
}

void UserState::Trim() {
  if (tokens_.size() <= history_) return;
  const auto excess = static_cast<std::ptrdiff_t>(tokens_.size() - history_);
  tokens_.erase(tokens_.begin(), tokens_.begin() + excess);
  if (!item_rows_.empty()) item_rows_.erase(item_rows_.begin(), item_rows_.begin() + excess);
  unsaved_ = std::min(unsaved_, tokens_.size());
}

size_t UserState::Bytes() const {
  const size_t key_values = key_values_.Bytes() + key_values_.blocks.capacity() * sizeof(AlignedBytes) +
                            key_values_.blocks.size() * kAlignedExtraBytes;
  return sizeof(*this) + kAllocationBytes + HeapBytes(user_id_) + HeapBytes(tokens_) + HeapBytes(item_rows_) +
         HeapBytes(last_list_) + recent_ids_.Bytes() + key_values;
}

}  // namespace freshet
