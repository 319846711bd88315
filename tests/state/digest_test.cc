#include <gtest/gtest.h>

#include <vector>

#include "tests/state/state_test_support.h"

namespace freshet {
namespace {

UserState MakeUser(const std::string& id, std::vector<uint64_t> tokens, int64_t first_offset) {
  UserState user(id, 10);
  for (const uint64_t token : tokens) user.Append(TestToken(token), Offset{first_offset++}, kUnknownItem);
  return user;
}

std::string DigestOf(const std::vector<const UserState*>& users) {
  StateDigest digest;
  for (const UserState* const user : users) digest.Add(*user);
  return digest.Hex();
}

TEST(StateDigest, DependsOnContentAloneAndNotOnOrder) {
  const UserState a = MakeUser("a", {1, 2, 3}, 0);
  const UserState b = MakeUser("b", {4, 5}, 3);
  const std::string both = DigestOf({&a, &b});
  EXPECT_EQ(both.size(), 32u);
  EXPECT_EQ(both.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(DigestOf({&b, &a}), both);
  const UserState elsewhere = MakeUser("b", {4, 5}, 70);
  EXPECT_EQ(DigestOf({&a, &elsewhere}), both);

  const UserState other_order = MakeUser("b", {5, 4}, 3);
  const UserState other_id = MakeUser("c", {4, 5}, 3);
  EXPECT_NE(DigestOf({&a, &other_order}), both);
  EXPECT_NE(DigestOf({&a, &other_id}), both);
  EXPECT_NE(DigestOf({&a}), both);
  EXPECT_NE(DigestOf({&a, &b, &b}), both);
}

TEST(StateDigest, SeesTheEventIds) {
  const auto digest_of = [](EventIdHash first, EventIdHash second) {
    UserState user("a", 10);
    user.Append(TestToken(1), Offset{0}, kUnknownItem, first);
    user.Append(TestToken(2), Offset{1}, kUnknownItem, second);
    return DigestOf({&user});
  };
  EXPECT_EQ(digest_of(TestId(1), TestId(2)), digest_of(TestId(1), TestId(2)));
  EXPECT_NE(digest_of(TestId(1), TestId(2)), digest_of(TestId(2), TestId(1)));
  EXPECT_NE(digest_of(TestId(1), kNoEventId), digest_of(kNoEventId, kNoEventId));
}

TEST(StateDigest, SeesTheProfileWhereTokensAreEqual) {
  UserState longer("a", 1);
  longer.Append(TestToken(1), Offset{0}, kUnknownItem);
  longer.Append(TestToken(2), Offset{1}, kUnknownItem);
  UserState shorter("a", 1);
  shorter.Append(TestToken(2), Offset{1}, kUnknownItem);
  ASSERT_EQ(longer.tokens()[0], shorter.tokens()[0]);
  EXPECT_NE(DigestOf({&longer}), DigestOf({&shorter}));
}

}  // namespace
}  // namespace freshet
