// The users of one store that are in memory: found by id, ordered by last use, counted in bytes.
//
// A user is clean (as on disk; may be evicted) or changed (stays until it is marked clean or erased). One allocation
// per user besides its vectors; a user's address does not change. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "state/user_state.h"

namespace freshet {

struct HotLinks {
  HotLinks* newer = this;
  HotLinks* older = this;
};

struct HotUser : HotLinks {
  HotUser(std::string_view id, size_t history, uint64_t id_hash) : hash(id_hash), state(std::string(id), history) {}

  // Memory that this user occupies: its state, this structure around it, and its place in the table.
  size_t Bytes() const { return state.Bytes() + sizeof(*this) - sizeof(state) + 2 * sizeof(HotUser*); }

  const uint64_t hash;
  HotUser* next_in_bucket = nullptr;
  size_t counted_bytes = 0;  // what the totals hold for this user
  bool changed = false;
  UserState state;
};

class HotUsers {
 public:
  explicit HotUsers(size_t history);
  ~HotUsers();
  HotUsers(const HotUsers&) = delete;
  HotUsers& operator=(const HotUsers&) = delete;

  // `hash`: StableHash(id).
  HotUser* Find(std::string_view id, uint64_t hash) const;
  // Brings what Find() will look at into the processor's cache.
  void Prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[hash & (buckets_.size() - 1)]); }

  // A new, clean, empty user, used most recently. REQUIRES: Find() does not find it.
  HotUser* Insert(std::string_view id, uint64_t hash);
  void Erase(HotUser* user);

  // Most, or least, recently used now. A changed user is in no order until it is clean.
  void TouchNewest(HotUser* user);
  void TouchOldest(HotUser* user);

  // Counts the user's bytes anew.
  void Recount(HotUser* user);
  void MarkChanged(HotUser* user);
  void MarkClean(HotUser* user);

  // Erases clean users, least recently used first, until `bytes` suffice; how many.
  size_t EvictTo(size_t bytes);

  size_t size() const { return size_; }
  size_t bytes() const { return bytes_; }

 private:
  void Grow();

  const size_t history_;
  std::vector<HotUser*> buckets_;  // a power of two, chained
  size_t size_ = 0;
  size_t bytes_ = 0;
  HotLinks clean_;  // a ring: clean_.older is the newest, clean_.newer the oldest
};

}  // namespace freshet
