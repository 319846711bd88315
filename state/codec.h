// Users to stored bytes and back, and the merge of stored bytes; the layout is atop codec.cc. Pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"
#include "state/user_state.h"

namespace freshet {

// The one form of a user's stored bytes: what some newest events add to what was there, and the user after them. A
// whole user is the delta to nothing. What is left of one who was forgotten has no events, and nothing but an offset.
struct Delta {
  Offset applied_offset{-1};
  Profile profile;
  std::string_view tokens;     // encoded, oldest first; a view into the bytes that were decoded
  std::string_view event_ids;  // likewise; of the events that carried one

  bool forgotten() const { return profile.events == 0; }
  size_t token_count() const;
  size_t event_id_count() const;
};

// Takes any bytes; kCorrupt, saying what is wrong, for those that EncodeX() cannot have made.
Result<Delta> DecodeDelta(std::string_view bytes);

// All of `deltas`, oldest first, as one: their newest `history` tokens and newest RecentIds::kKept event ids, profile
// and offset of the newest. Associative. A forgotten user ends what came before; what follows is a whole user,
// and is stored as such, so that it is never merged to anything older.
// Where one is corrupt the result is the first corrupt one, so that damage is neither hidden nor spread to other users.
// REQUIRES: !deltas.empty(), history > 0.
std::string MergeDeltas(std::span<const std::string_view> deltas, size_t history);

// Of the largest user of whom `history` tokens are kept.
size_t MaxUserBytes(size_t history);

// Where consumption goes on, as stored beside the users.
std::string EncodePosition(Offset position);
Result<Offset> DecodePosition(std::string_view bytes);

// Error where consumption would go back: state is a function of the log up to a position, and cannot forget.
Status CheckAdvance(std::optional<Offset> from, Offset to);

class StateCodec {
 public:
  // Whether the user changed since it was decoded, made, or marked saved.
  static bool HasUnsaved(const UserState& user) { return user.unsaved_ > 0 || user.unsaved_forget_; }
  // Whether what is unsaved is all that is kept: EncodeUnsaved() is then the whole user.
  static bool UnsavedIsAll(const UserState& user) {
    return user.unsaved_ >= user.tokens().size() && user.unsaved_ids_ >= user.recent_ids().newest().size();
  }
  static void MarkSaved(UserState& user) {
    user.unsaved_ = user.unsaved_ids_ = 0;
    user.unsaved_forget_ = false;
  }

  // Replaces `bytes` by the delta since the last save, or by the whole user.
  static void EncodeUnsaved(const UserState& user, std::string& bytes);
  static void EncodeAll(const UserState& user, std::string& bytes);

  // Makes `user`, which must be new, what `bytes` say; keeps its newest `history` tokens. As DecodeDelta().
  static Status Decode(std::string_view bytes, UserState& user);
};

}  // namespace freshet
