#include "core/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/hash.h"

namespace freshet {
namespace {

using testing::HasSubstr;

TEST(StableHash, NeverChanges) {  // written to disk; reference values of XXH3_64bits
  EXPECT_EQ(StableHash(""), 0x2D06800538D394C2u);
  EXPECT_EQ(Raw(HashType("view")), static_cast<uint32_t>(StableHash("view")));
}

TEST(Vocabulary, MapsKnownIdsToTheirRowsAndOthersToZero) {
  const auto vocabulary = Vocabulary::Make({"[unknown]", "i1", "i2"}, {"[unknown]", "view"});
  ASSERT_TRUE(vocabulary.ok());
  EXPECT_EQ(vocabulary->RowOf(HashItem("i2")), ItemRow{2});
  EXPECT_EQ(vocabulary->RowOf(HashItem("i3")), kUnknownItem);
  EXPECT_EQ(vocabulary->RowOf(HashType("view")), TypeRow{1});
  EXPECT_EQ(vocabulary->RowOf(HashType("buy")), kUnknownType);
}

TEST(Vocabulary, RefusesWhatWouldMakeTwoRowsOne) {
  const auto message = [](std::vector<std::string> items, std::vector<std::string> types) {
    return Vocabulary::Make(std::move(items), std::move(types)).error().message();
  };
  EXPECT_THAT(message({"[unknown]", "a", "b", "a"}, {"[unknown]"}),
              HasSubstr("items row 3: duplicate id: \"a\" and row 1"));
  EXPECT_THAT(message({"a"}, {"[unknown]"}), HasSubstr("items row 0"));
  EXPECT_THAT(message({}, {"[unknown]"}), HasSubstr("absent"));
  EXPECT_THAT(message({"[unknown]", ""}, {"[unknown]"}), HasSubstr("row 1: id is empty"));
  EXPECT_THAT(message({"[unknown]"}, {"[unknown]", "v", "v"}), HasSubstr("event types row 2"));
}

TEST(Vocabulary, RefusesCollidingHashes) {
  // Two names whose 32-bit type hashes are equal, found by search.
  std::vector<std::string> names;
  std::unordered_map<uint32_t, std::string> seen;
  for (int i = 0; names.empty(); ++i) {
    const std::string name = "t" + std::to_string(i);
    const auto [found, fresh] = seen.emplace(Raw(HashType(name)), name);
    if (!fresh) names = {"[unknown]", found->second, name};
  }
  const auto vocabulary = Vocabulary::Make({"[unknown]"}, names);
  ASSERT_FALSE(vocabulary.ok());
  EXPECT_THAT(vocabulary.error().message(), HasSubstr("stable hashes collide"));
}

}  // namespace
}  // namespace freshet
