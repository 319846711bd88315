// A user in memory: the sequence, the profile, and caches of what a model made of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/ids.h"
#include "core/key_value_cache.h"

namespace freshet {

// Facts about a user that a window of tokens forgets. A function of the user's events alone (event time only).
struct Profile {
  int64_t events = 0;            // accepted events; the newest one's sequence number
  int64_t first_time_ms = 0;     // of the first event in arrival order
  int64_t last_time_ms = 0;      // of the newest event in arrival order
  int64_t sessions = 0;          // a session ends with a gap of more than kSessionGapMs
  int64_t session_start_ms = 0;  // of the newest session
  int64_t session_events = 0;    // in the newest session

  static constexpr int64_t kSessionGapMs = 30 * 60 * 1000;
  bool operator==(const Profile&) const = default;

  // Takes in one event of this time.
  void Add(int64_t time_ms);
};

// The event ids by which an upstream duplicate is told: those of a user's newest events that carried one.
class RecentIds {
 public:
  static constexpr size_t kKept = 64;

  // Oldest first, at most kKept.
  std::span<const EventIdHash> newest() const {
    return std::span<const EventIdHash>(ids_).last(std::min(ids_.size(), kKept));
  }
  bool Contains(EventIdHash id) const {
    const auto ids = newest();
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  }
  void Add(EventIdHash id);
  size_t Bytes() const;  // beyond this object; 0 without ids

 private:
  std::vector<EventIdHash> ids_;  // may hold some more than kKept
};

// What became of an event that was given to a user.
enum class Appended {
  kTaken,
  kRepeat,     // taken in before: its offset is not past applied_offset()
  kDuplicate,  // its id is among recent_ids(): its producer sent it twice
};

class UserState {
 public:
  // `history`: how many newest tokens are kept, > 0.
  UserState(std::string user_id, size_t history) : user_id_(std::move(user_id)), history_(history) {}

  const std::string& user_id() const { return user_id_; }
  // Offset of the newest event taken in; an event at or before it changes nothing. -1: none yet.
  Offset applied_offset() const { return applied_offset_; }
  const Profile& profile() const { return profile_; }
  // The newest tokens, oldest first, at most `history`.
  std::span<const Token> tokens() const {
    return std::span<const Token>(tokens_).last(std::min(tokens_.size(), history_));
  }

  // Of the newest events that carried an id, and as durable as tokens(): a function of the log.
  const RecentIds& recent_ids() const { return recent_ids_; }

  // Takes in the event at `offset`; unless kTaken, nothing changes. `row`: the token's item in the current model; kept
  // beside it while item_rows() belong to that model.
  //
  // A duplicate leaves applied_offset() where it is, so a replay meets it again, and drops it again: replayed from any
  // position, a user is at each offset past applied_offset() what it was there the first time, its ids included, and
  // what lies at or before applied_offset() is a repeat.
  Appended Append(const Token& token, Offset offset, ItemRow row, EventIdHash id = kNoEventId);

  // Becomes a user of whom nothing is known but that what lies at or before `offset` changes nothing. False, and
  // nothing changes: `offset` was applied before.
  bool Forget(Offset offset);
  // Whether there is such a user, or none at all.
  bool IsForgotten() const { return profile_.events == 0; }

  // What the current model makes of the sequence; a cache, never written to disk. Rows of tokens(), same order, once
  // ResetRows() was called for the model.
  std::span<const ItemRow> item_rows() const {
    return std::span<const ItemRow>(item_rows_).last(std::min(item_rows_.size(), history_));
  }
  // True where item_rows() are those of `model`; else fill them through ResetRows().
  bool RowsAreOf(ModelTag model) const { return rows_model_ == model; }
  // Replaces item_rows() by `row_of(token)` for each of tokens(), and forgets last_list().
  template <typename RowOf>
  void ResetRows(ModelTag model, RowOf row_of) {
    Trim();
    item_rows_.clear();
    for (const Token& token : tokens_) item_rows_.push_back(row_of(token));
    last_list_.clear();
    rows_model_ = model;
  }
  // The newest list that was published to the user, as far as it is remembered: rows of the same model, best first;
  // empty: not known. A cache, never written to disk.
  std::vector<ItemRow>& last_list() { return last_list_; }
  KeyValueCache& key_values() { return key_values_; }
  const KeyValueCache& key_values() const { return key_values_; }

  // Memory that this user occupies, bookkeeping included.
  size_t Bytes() const;

 private:
  friend class StateCodec;  // to and from stored bytes, and which tokens are not durable yet (state/codec.h)

  // Drops tokens beyond `history_`. Called now and then by Append(), so that an append seldom moves memory.
  void Trim();

  std::string user_id_;
  size_t history_;
  Offset applied_offset_{-1};
  Profile profile_;
  std::vector<Token> tokens_;  // may hold some more than `history_`
  size_t unsaved_ = 0;         // newest tokens_ that no Apply() has made durable
  RecentIds recent_ids_;
  bool unsaved_forget_ = false;  // Forget() took away what is durable
  size_t unsaved_ids_ = 0;       // newest of recent_ids_ that no Apply() has made durable; may exceed what is kept
  ModelTag rows_model_{};
  std::vector<ItemRow> item_rows_;
  std::vector<ItemRow> last_list_;
  KeyValueCache key_values_;
};

}  // namespace freshet
