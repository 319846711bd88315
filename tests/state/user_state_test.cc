#include "state/user_state.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

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
  EXPECT_TRUE(user.Append(TestToken(1), Offset{10}, kUnknownItem));
  const PlainUser once = Plain(user);
  EXPECT_FALSE(user.Append(TestToken(2), Offset{10}, kUnknownItem));
  EXPECT_FALSE(user.Append(TestToken(3), Offset{9}, kUnknownItem));
  EXPECT_FALSE(user.Append(TestToken(3), Offset{-1}, kUnknownItem));
  EXPECT_EQ(Plain(user), once);
  EXPECT_TRUE(user.Append(TestToken(2), Offset{11}, kUnknownItem));
  EXPECT_EQ(user.applied_offset(), Offset{11});
  EXPECT_EQ(user.profile().events, 2);
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
      ASSERT_TRUE(user.Append(token, Offset{static_cast<int64_t>(n)}, row_of(token)));
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
  const size_t without = user.Bytes();
  user.key_values().block_floats = 1024;
  user.key_values().blocks.push_back(AllocateAligned(1024));
  EXPECT_GE(user.Bytes(), without + 4096);
  user.key_values().Clear();
  EXPECT_EQ(user.Bytes(), without);
}

}  // namespace
}  // namespace freshet
