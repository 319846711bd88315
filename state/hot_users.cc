#include "state/hot_users.h"

#include <string>

namespace freshet {
namespace {

constexpr size_t kFirstBuckets = 1024;

void Unlink(HotLinks* links) {
  links->newer->older = links->older;
  links->older->newer = links->newer;
  links->newer = links->older = links;
}

// Puts `links` right below `newer`.
void LinkBelow(HotLinks* newer, HotLinks* links) {
  links->newer = newer;
  links->older = newer->older;
  newer->older->newer = links;
  newer->older = links;
}

}  // namespace

HotUsers::HotUsers(size_t history) : history_(history), buckets_(kFirstBuckets, nullptr) {}

HotUsers::~HotUsers() {
  for (HotUser* user : buckets_) {
    while (user != nullptr) {
      HotUser* const next = user->next_in_bucket;
      delete user;
      user = next;
    }
  }
}

HotUser* HotUsers::Find(std::string_view id, uint64_t hash) const {
  HotUser* user = buckets_[hash & (buckets_.size() - 1)];
  while (user != nullptr && (user->hash != hash || user->state.user_id() != id)) user = user->next_in_bucket;
  return user;
}

HotUser* HotUsers::Insert(std::string_view id, uint64_t hash) {
  if (size_ == buckets_.size()) Grow();
  auto* const user = new HotUser(id, history_, hash);
  HotUser*& bucket = buckets_[hash & (buckets_.size() - 1)];
  user->next_in_bucket = bucket;
  bucket = user;
  ++size_;
  LinkBelow(&clean_, user);
  Recount(user);
  return user;
}

void HotUsers::Erase(HotUser* user) {
  HotUser** place = &buckets_[user->hash & (buckets_.size() - 1)];
  while (*place != user) place = &(*place)->next_in_bucket;
  *place = user->next_in_bucket;
  Unlink(user);
  bytes_ -= user->counted_bytes;
  --size_;
  delete user;
}

void HotUsers::TouchNewest(HotUser* user) {
  if (user->changed || user->newer == &clean_) return;
  Unlink(user);
  LinkBelow(&clean_, user);
}

void HotUsers::TouchOldest(HotUser* user) {
  if (user->changed) return;
  Unlink(user);
  LinkBelow(clean_.newer, user);
}

void HotUsers::Recount(HotUser* user) {
  const size_t now = user->Bytes();
  bytes_ += now - user->counted_bytes;
  user->counted_bytes = now;
}

void HotUsers::MarkChanged(HotUser* user) {
  user->changed = true;
  Unlink(user);
}

void HotUsers::MarkClean(HotUser* user) {
  user->changed = false;
  LinkBelow(&clean_, user);
}

size_t HotUsers::EvictTo(size_t bytes) {
  size_t evicted = 0;
  for (; bytes_ > bytes && clean_.newer != &clean_; ++evicted) Erase(static_cast<HotUser*>(clean_.newer));
  return evicted;
}

void HotUsers::Grow() {
  std::vector<HotUser*> old(2 * buckets_.size(), nullptr);
  old.swap(buckets_);
  for (HotUser* user : old) {
    while (user != nullptr) {
      HotUser* const next = user->next_in_bucket;
      HotUser*& bucket = buckets_[user->hash & (buckets_.size() - 1)];
      user->next_in_bucket = bucket;
      bucket = user;
      user = next;
    }
  }
}

}  // namespace freshet
