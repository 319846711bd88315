#include "state/hot_users.h"

#include <gtest/gtest.h>

#include <list>
#include <map>
#include <random>
#include <string>

#include "core/hash.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// Random operations against a list in order of use; hashes collide on purpose.
TEST(HotUsers, BehaveLikeAListByLastUse) {
  std::mt19937_64 random(TestSeed());
  HotUsers hot(4);
  std::list<std::string> clean;  // newest first
  std::map<std::string, HotUser*> changed;
  const auto hash_of = [](const std::string& id) { return StableHash(id) % 500; };
  for (int step = 0; step < 50'000; ++step) {
    const std::string id = "user-" + std::to_string(random() % 3000);
    HotUser* user = hot.Find(id, hash_of(id));
    const auto place = std::find(clean.begin(), clean.end(), id);
    ASSERT_EQ(user != nullptr, place != clean.end() || changed.contains(id));
    if (user == nullptr) {
      ASSERT_EQ(hot.Insert(id, hash_of(id))->state.user_id(), id);
      clean.push_front(id);
      continue;
    }
    switch (random() % 6) {
      case 0:
        hot.TouchNewest(user);
        if (!user->changed) clean.splice(clean.begin(), clean, place);
        break;
      case 1:
        hot.TouchOldest(user);
        if (!user->changed) clean.splice(clean.end(), clean, place);
        break;
      case 2:
        hot.Erase(user);
        if (place != clean.end()) clean.erase(place);
        changed.erase(id);
        break;
      case 3:
        if (user->changed) break;
        hot.MarkChanged(user);
        clean.erase(place);
        changed[id] = user;
        break;
      case 4:
        if (!user->changed) break;
        hot.MarkClean(user);
        clean.push_front(id);
        changed.erase(id);
        break;
      default: {
        const size_t bytes = hot.bytes() - std::min<size_t>(hot.bytes(), random() % 2000);
        for (size_t n = hot.EvictTo(bytes); n > 0; --n) clean.pop_back();
        ASSERT_TRUE(hot.bytes() <= bytes || clean.empty());
      }
    }
    ASSERT_EQ(hot.size(), clean.size() + changed.size());
  }
  EXPECT_EQ(hot.EvictTo(0), clean.size());
  EXPECT_EQ(hot.size(), changed.size());
  for (const auto& [id, user] : changed) ASSERT_EQ(hot.Find(id, hash_of(id)), user);
}

TEST(HotUsers, BytesFollowGrowth) {
  HotUsers hot(100);
  HotUser* const user = hot.Insert("u", StableHash("u"));
  const size_t before = hot.bytes();
  EXPECT_GE(before, sizeof(HotUser));
  for (int64_t n = 0; n < 100; ++n) user->state.Append(Token{}, Offset{n}, kUnknownItem);
  hot.Recount(user);
  EXPECT_GE(hot.bytes(), before + 100 * sizeof(Token));
  hot.Erase(user);
  EXPECT_EQ(hot.bytes(), 0u);
}

}  // namespace
}  // namespace freshet
