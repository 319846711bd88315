#include "state/user_state.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr int64_t kMinute = 60 * 1000;

TEST(Profile, CountsEventsAndSessions) {
  Profile profile;
  profile.Add(100 * kMinute);
  profile.Add(130 * kMinute);  // a gap of exactly the limit goes on with the session
  EXPECT_EQ(profile.sessions, 1);
  EXPECT_EQ(profile.session_events, 2);
  profile.Add(160 * kMinute + 1);
  EXPECT_EQ(profile.sessions, 2);
  EXPECT_EQ(profile.session_start_ms, 160 * kMinute + 1);
  EXPECT_EQ(profile.session_events, 1);
  EXPECT_EQ(profile.events, 3);
  EXPECT_EQ(profile.first_time_ms, 100 * kMinute);
  EXPECT_EQ(profile.last_time_ms, 160 * kMinute + 1);
}

TEST(Profile, TimeThatRunsBackwardsGoesOnWithTheSession) {
  Profile profile;
  profile.Add(1000 * kMinute);
  profile.Add(10 * kMinute);
  EXPECT_EQ(profile.sessions, 1);
  EXPECT_EQ(profile.first_time_ms, 1000 * kMinute);
  EXPECT_EQ(profile.last_time_ms, 10 * kMinute);
  profile.Add(999 * kMinute);  // the gap is counted from the newest arrival
  EXPECT_EQ(profile.sessions, 2);
}

TEST(Profile, TakesAnyTwoTimes) {
  Profile profile;
  profile.Add(std::numeric_limits<int64_t>::min());
  profile.Add(std::numeric_limits<int64_t>::max());
  profile.Add(std::numeric_limits<int64_t>::min());
  EXPECT_EQ(profile.events, 3);
  EXPECT_EQ(profile.sessions, 2);
}

TEST(UserState, TakesAnOffsetOnce) {
  UserState user("u", 4);
  EXPECT_EQ(user.Append(TestToken(1), Offset{10}, kUnknownItem), Appended::kTaken);
  const PlainUser once = Plain(user);
  EXPECT_EQ(user.Append(TestToken(2), Offset{10}, kUnknownItem), Appended::kRepeat);
  EXPECT_EQ(user.Append(TestToken(3), Offset{9}, kUnknownItem), Appended::kRepeat);
  EXPECT_EQ(user.Append(TestToken(3), Offset{-1}, kUnknownItem), Appended::kRepeat);
  EXPECT_EQ(Plain(user), once);
  EXPECT_EQ(user.Append(TestToken(2), Offset{11}, kUnknownItem), Appended::kTaken);
  EXPECT_EQ(user.applied_offset(), Offset{11});
  EXPECT_EQ(user.profile().events, 2);
}

TEST(UserState, TakesAnEventIdOnceAmongTheNewest) {
  UserState user("u", 4);
  int64_t offset = 0;
  const auto append = [&](EventIdHash id) { return user.Append(TestToken(1), Offset{offset++}, kUnknownItem, id); };
  for (uint64_t n = 0; n < 64; ++n) ASSERT_EQ(append(TestId(n)), Appended::kTaken);
  const PlainUser full = Plain(user);
  for (uint64_t n = 0; n < 64; ++n) ASSERT_EQ(append(TestId(n)), Appended::kDuplicate);
  EXPECT_EQ(Plain(user), full) << "the applied offset, too, stays where it is";

  // Events without an id neither are duplicates nor push ids out.
  for (int n = 0; n < 100; ++n) ASSERT_EQ(append(kNoEventId), Appended::kTaken);
  EXPECT_EQ(append(TestId(0)), Appended::kDuplicate);
  EXPECT_EQ(append(TestId(64)), Appended::kTaken);
  EXPECT_EQ(append(TestId(1)), Appended::kDuplicate);
  EXPECT_EQ(append(TestId(0)), Appended::kTaken) << "64 ids later it is forgotten";
  EXPECT_EQ(user.profile().events, 64 + 100 + 2);
}

TEST(UserState, ARepeatIsARepeatWhateverItsId) {
  UserState user("u", 4);
  EXPECT_EQ(user.Append(TestToken(1), Offset{5}, kUnknownItem, TestId(1)), Appended::kTaken);
  EXPECT_EQ(user.Append(TestToken(1), Offset{5}, kUnknownItem, TestId(1)), Appended::kRepeat);
  EXPECT_EQ(user.Append(TestToken(1), Offset{4}, kUnknownItem, TestId(2)), Appended::kRepeat);
  EXPECT_EQ(user.Append(TestToken(1), Offset{6}, kUnknownItem, TestId(2)), Appended::kTaken);
}

// From wherever a replay begins, it takes and drops what was taken and dropped the first time.
TEST(UserState, AReplayFromAnyOffsetChangesNothing) {
  std::mt19937_64 random(TestSeed());
  std::vector<std::pair<Token, EventIdHash>> log(400);
  for (auto& [token, id] : log) {
    token = RandomToken(random);
    id = RandomId(random);
  }
  const auto replay = [&](UserState& user, size_t from, size_t to) {
    for (size_t n = from; n < to; ++n)
      user.Append(log[n].first, Offset{static_cast<int64_t>(n)}, kUnknownItem, log[n].second);
  };
  UserState once("u", 20);
  replay(once, 0, log.size());
  ASSERT_LT(once.profile().events, 350);
  for (size_t at = 0; at < log.size(); at += 7) {
    UserState again("u", 20);
    replay(again, 0, at);
    replay(again, random() % (at + 1), log.size());
    ASSERT_EQ(Plain(again), Plain(once)) << at;
  }
}

TEST(UserState, KeepsTheNewestTokensAndTheirRows) {
  for (const size_t history : {1, 2, 7, 50, 197}) {
    UserState user("u", history);
    PlainUser plain;
    const auto row_of = [](const Token& token) { return ItemRow{static_cast<uint32_t>(token.time_ms / 1000)}; };
    for (uint64_t n = 0; n < 1000; ++n) {
      // The model arrives late and changes on the way.
      if (n == 5 || n == 500) user.ResetRows(ModelTag{n}, row_of);
      const Token token = TestToken(n);
      ASSERT_EQ(user.Append(token, Offset{static_cast<int64_t>(n)}, row_of(token)), Appended::kTaken);
      plain.Append(token, Offset{static_cast<int64_t>(n)});
      ASSERT_EQ(Plain(user), plain.Newest(history));
      if (n < 5) continue;
      ASSERT_TRUE(user.RowsAreOf(ModelTag{n < 500 ? 5u : 500u}));
      ASSERT_EQ(user.item_rows().size(), user.tokens().size());
      for (size_t i = 0; i < user.tokens().size(); ++i) ASSERT_EQ(user.item_rows()[i], row_of(user.tokens()[i]));
    }
  }
}

TEST(UserState, BytesCountTheCachesAndStayBounded) {
  UserState user(std::string(100, 'x'), 50);
  const size_t empty = user.Bytes();
  EXPECT_GE(empty, sizeof(UserState) + 100);
  for (int64_t n = 0; n < 10'000; ++n) {
    user.Append(TestToken(static_cast<uint64_t>(n)), Offset{n}, kUnknownItem);
    ASSERT_LE(user.Bytes(), empty + (50 + 16) * sizeof(Token) + 16);
  }
  const size_t without_ids = user.Bytes();
  EXPECT_EQ(user.recent_ids().Bytes(), 0u);
  for (int64_t n = 0; n < 10'000; ++n) {
    user.Append(TestToken(1), Offset{10'000 + n}, kUnknownItem, TestId(static_cast<uint64_t>(n)));
    ASSERT_LE(user.recent_ids().Bytes(), (64 + 16) * sizeof(EventIdHash) + 16);
  }
  EXPECT_GE(user.Bytes(), without_ids + 64 * sizeof(EventIdHash));
  user.last_list().resize(100);
  EXPECT_GE(user.Bytes(), without_ids + 64 * sizeof(EventIdHash) + 100 * sizeof(ItemRow));
  const size_t without = user.Bytes();
  user.key_values().block_bytes = 4096;
  user.key_values().blocks.push_back(AllocateAlignedBytes(4096));
  EXPECT_GE(user.Bytes(), without + 4096);
  user.key_values().Clear();
  EXPECT_EQ(user.Bytes(), without);
}

}  // namespace
}  // namespace freshet
