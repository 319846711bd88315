// What `freshet serve` keeps: the newest record of each user, and how far it has read.
#include "state/recommendation_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using testing::HasSubstr;

class RecommendationStoreTest : public testing::Test {
 protected:
  RecommendationStoreTest() {
    options_.directory = directory_.path() / "a" / "served";
    options_.topic = "answers";
    options_.block_cache_bytes = 1 << 20;
  }

  std::unique_ptr<RecommendationStore> Open() {
    auto store = RecommendationStore::Open(options_);
    EXPECT_TRUE(store.ok()) << store.error().message();
    return std::move(store).value();
  }

  static std::string IdOf(const RecommendationStore& store, std::string_view user) {
    const auto found = store.Find(user);
    EXPECT_TRUE(found.ok());
    return *found ? (*found)->id : "";
  }

  TemporaryDirectory directory_;
  RecommendationStoreOptions options_;
};

TEST_F(RecommendationStoreTest, KeepsTheNewestOfEachUser) {
  const auto store = Open();
  ASSERT_TRUE(store->Put("u1", 1, "one").ok() && store->Put("u1", 2, "two").ok() && store->Put("", 7, "").ok());
  EXPECT_EQ(IdOf(*store, "u1"), "") << "not committed";
  ASSERT_TRUE(store->Commit().ok());
  const auto found = store->Find("u1");
  ASSERT_TRUE(found.ok() && *found);
  EXPECT_EQ((*found)->sequence_number, 2);
  EXPECT_EQ((*found)->record, "two");
  EXPECT_EQ((*found)->id, "2");
  EXPECT_EQ(IdOf(*store, ""), "7");
  EXPECT_EQ(IdOf(*store, "u"), "");
  EXPECT_EQ(IdOf(*store, "u11"), "");
}

TEST_F(RecommendationStoreTest, GoesOnWhereItsLastCommitWas) {
  std::string instance;
  {
    const auto store = Open();
    instance = store->instance();
    EXPECT_EQ(store->Position(PartitionId{12}), std::nullopt);
    ASSERT_TRUE(store->Put("u1", 3, "three").ok() && store->Advance(PartitionId{12}, Offset{40}).ok());
    ASSERT_TRUE(store->Commit().ok());
    EXPECT_EQ(store->Position(PartitionId{12}), Offset{40});
    ASSERT_TRUE(store->Put("u1", 4, "four").ok() && store->Advance(PartitionId{12}, Offset{41}).ok());
    EXPECT_EQ(store->Position(PartitionId{12}), Offset{40});
  }
  const auto store = Open();
  EXPECT_EQ(store->instance(), instance);
  EXPECT_EQ(store->Position(PartitionId{12}), Offset{40});
  EXPECT_EQ(store->Position(PartitionId{1}), std::nullopt);
  EXPECT_EQ(IdOf(*store, "u1"), "3");
}

TEST_F(RecommendationStoreTest, ARemovedUserStaysRemovedAndComesBackUnderAnotherId) {
  {
    const auto store = Open();
    ASSERT_TRUE(store->Put("u1", 3, "three").ok() && store->Remove("u1", Offset{99}).ok() && store->Commit().ok());
    EXPECT_EQ(IdOf(*store, "u1"), "");
  }
  const auto store = Open();
  EXPECT_EQ(IdOf(*store, "u1"), "");
  ASSERT_TRUE(store->Put("u1", 3, "again").ok() && store->Commit().ok());
  EXPECT_EQ(IdOf(*store, "u1"), "3-99");
}

TEST_F(RecommendationStoreTest, SaysHowMuchIsOnDisk) {
  options_.write_buffer_bytes = 64 << 10;
  const auto store = Open();
  EXPECT_EQ(store->table_bytes(), 0u);
  const std::string record(1000, 'x');
  for (int user = 0; user < 2000; ++user) {
    ASSERT_TRUE(store->Put("u" + std::to_string(user), 1, record).ok() && store->Commit().ok());
  }
  EXPECT_GT(store->table_bytes(), 10'000u);
}

TEST_F(RecommendationStoreTest, IsOfOneTopicAndOneProcess) {
  auto store = Open();
  const auto again = RecommendationStore::Open(options_);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), ErrorCode::kUnavailable);
  EXPECT_THAT(again.error().message(), HasSubstr("another process has it open"));
  store.reset();
  options_.topic = "others";
  const auto other = RecommendationStore::Open(options_);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(other.error().message(), HasSubstr("holds records of topic answers, expected those of others"));
}

TEST_F(RecommendationStoreTest, NamesADirectoryThatCannotBe) {
  std::ofstream(directory_.path() / "a") << "a file";
  const auto store = RecommendationStore::Open(options_);
  ASSERT_FALSE(store.ok());
  EXPECT_THAT(store.error().message(), HasSubstr("serve.directory " + options_.directory.string()));
}

}  // namespace
}  // namespace freshet
