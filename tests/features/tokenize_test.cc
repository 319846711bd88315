#include "features/tokenize.h"

#include <gtest/gtest.h>

#include "core/hash.h"

namespace freshet {
namespace {

TEST(MakeToken, KeepsStableHashesAndTime) {
  Event event;
  event.item_id = "i9";
  event.event_type = "view";
  event.timestamp_ms = 1506826800026;
  EXPECT_EQ(MakeToken(event), (Token{HashItem("i9"), HashType("view"), 1506826800026}));
}

TEST(WholeSeconds, FloorsTowardsThePast) {
  EXPECT_EQ(WholeSeconds(0), 0);
  EXPECT_EQ(WholeSeconds(999), 0);
  EXPECT_EQ(WholeSeconds(1000), 1);
  EXPECT_EQ(WholeSeconds(-1), -1);
  EXPECT_EQ(WholeSeconds(-1000), -1);
  EXPECT_EQ(WholeSeconds(-1001), -2);
}

TEST(ToModelToken, MapsUnknownIdsToRowZero) {
  const auto vocabulary = Vocabulary::Make({"[unknown]", "i1"}, {"[unknown]", "view"});
  ASSERT_TRUE(vocabulary.ok());
  EXPECT_EQ(ToModelToken({HashItem("i1"), HashType("view"), 2500}, *vocabulary),
            (ModelToken{ItemRow{1}, TypeRow{1}, 2}));
  EXPECT_EQ(ToModelToken({HashItem("x"), HashType("y"), 0}, *vocabulary), (ModelToken{kUnknownItem, kUnknownType, 0}));
}

}  // namespace
}  // namespace freshet
