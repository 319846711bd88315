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

  // Takes in the event at `offset`. False, and nothing changes, where it was taken in before (offset <=
  // applied_offset()). `row`: the token's item in the current model; kept beside it while item_rows() belong to that
  // model.
  bool Append(const Token& token, Offset offset, ItemRow row);

  // What the current model makes of the sequence; a cache, never written to disk. Rows of tokens(), same order, once
  // ResetRows() was called for the model.
  std::span<const ItemRow> item_rows() const {
    return std::span<const ItemRow>(item_rows_).last(std::min(item_rows_.size(), history_));
  }
  // True where item_rows() are those of `model`; else fill them through ResetRows().
  bool RowsAreOf(ModelTag model) const { return rows_model_ == model; }
  // Replaces item_rows() by `row_of(token)` for each of tokens().
  template <typename RowOf>
  void ResetRows(ModelTag model, RowOf row_of) {
    Trim();
    item_rows_.clear();
    for (const Token& token : tokens_) item_rows_.push_back(row_of(token));
    rows_model_ = model;
  }
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
  ModelTag rows_model_{};
  std::vector<ItemRow> item_rows_;
  KeyValueCache key_values_;
};

}  // namespace freshet
