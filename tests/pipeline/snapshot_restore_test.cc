#include "pipeline/snapshot_restore.h"

#include <gmock/gmock.h>

#include "ingest/memory.h"
#include "tests/pipeline/snapshot_test_support.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr std::string_view kWhose = "freshet, events";

class SnapshotRestoreTest : public testing::Test {
 protected:
  void SetUp() override {
    topic_.name = "freshet-snapshots";
    topic_.partitions.resize(1);
    topic_.keys.resize(1);
  }

  void Put(const std::string& key, const std::string& value) {
    topic_.keys[0].push_back(key);
    topic_.partitions[0].push_back(value);
  }
  // The users of `logged` as they are.
  void PutUsers(const LoggedStore& logged) {
    std::string after;
    const auto put = [&](const StoredUser& user) {
      const std::string key = SnapshotUserKey(user.id);
      return Put(key, EncodeSnapshot(key, user.bytes)), true;
    };
    ASSERT_TRUE(logged.store->Scan(after, 1'000'000, put).ok());
  }
  void PutWatermark(int64_t position, std::string_view whose = kWhose) {
    const std::string key = WatermarkKey(whose);
    Put(key, EncodeSnapshot(key, EncodeWatermark({Offset{position}, std::string(whose)})));
  }

  Result<bool> Step(milliseconds budget = std::chrono::seconds(60)) {
    if (!restore_) {
      restore_.emplace(std::make_unique<MemorySource>(topic_), "events[0]", std::string(kWhose), true, *store_);
    }
    return restore_->Step(budget);
  }
  Error Refused() {
    const Result<bool> done = Step();
    EXPECT_EQ(store_->Position(), std::nullopt);
    return done.ok() ? Error(ErrorCode::kInternal, "not refused") : done.error();
  }

  MemoryTopic topic_;
  std::unique_ptr<UserStateStore> store_ = MakeMemoryStore(kSnapshotHistory);
  std::optional<SnapshotRestore> restore_;
};

LoggedStore SomeUsers(int users) {
  LoggedStore logged;
  for (int n = 0; n < 3 * users; ++n) logged.Add("u" + std::to_string(n % users));
  logged.Apply();
  return logged;
}

TEST_F(SnapshotRestoreTest, UsersAndPositionAreThoseOfTheSnapshot) {
  LoggedStore logged = SomeUsers(50);
  PutUsers(logged);
  PutWatermark(100);
  for (int n = 0; n < 20; ++n)
    logged.Add("u" + std::to_string(n));  // a second cycle; not compacted away yet: the first
  logged.Apply();
  PutUsers(logged);
  PutWatermark(150);
  const Result<bool> done = Step();
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_TRUE(*done);
  EXPECT_EQ(Contents(*store_), Contents(*logged.store));
  EXPECT_EQ(store_->Position(), Offset{150});
  EXPECT_EQ(store_->SnapshotPosition(), Offset{150});
  EXPECT_EQ(restore_->restored(), 100);
}

TEST_F(SnapshotRestoreTest, ATombstoneTakesItsUserAway) {
  const LoggedStore logged = SomeUsers(3);
  PutUsers(logged);
  for (const std::string user : {"u1", "u2", "u7"}) {
    topic_.tombstones.emplace(0, std::ssize(topic_.keys[0]));
    Put(SnapshotUserKey(user), "");
  }
  const auto u2 = [&](const StoredUser& user) {
    if (user.id == "u2") Put(SnapshotUserKey(user.id), EncodeSnapshot(SnapshotUserKey(user.id), user.bytes));
    return true;
  };
  std::string after;
  ASSERT_TRUE(logged.store->Scan(after, 100, u2).ok());  // came back
  PutWatermark(9);
  ASSERT_TRUE(Step().value());
  auto expected = Contents(*logged.store);
  expected.erase("u1");
  EXPECT_EQ(Contents(*store_), expected);
}

// Whatever was committed of the snapshot topic by somebody.
TEST_F(SnapshotRestoreTest, ItIsReadFromItsBeginning) {
  const LoggedStore logged = SomeUsers(10);
  PutUsers(logged);
  PutWatermark(30);
  topic_.committed[PartitionId{0}] = Offset{11};
  ASSERT_TRUE(Step().ok());
  EXPECT_EQ(Contents(*store_), Contents(*logged.store));
}

TEST_F(SnapshotRestoreTest, ALongOneComesInSlices) {
  const LoggedStore logged = SomeUsers(2500);
  PutUsers(logged);
  PutWatermark(7500);
  int steps = 1;
  for (; !Step(milliseconds(0)).value(); ++steps) {
    EXPECT_EQ(restore_->restored(), 1000 * steps);
    EXPECT_EQ(store_->Position(), std::nullopt) << "no position before all of it is there";
  }
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(Contents(*store_), Contents(*logged.store));
  EXPECT_EQ(store_->Position(), Offset{7500});
}

TEST_F(SnapshotRestoreTest, WithoutAWatermarkThereIsNoPosition) {
  const LoggedStore logged = SomeUsers(5);
  PutUsers(logged);
  ASSERT_TRUE(Step().value());
  EXPECT_EQ(store_->Position(), std::nullopt);
  EXPECT_EQ(store_->SnapshotPosition(), std::nullopt);
  EXPECT_EQ(Contents(*store_), Contents(*logged.store));
}

TEST_F(SnapshotRestoreTest, AnEmptyOneIsDone) {
  ASSERT_TRUE(Step().value());
  EXPECT_EQ(store_->Position(), std::nullopt);
  EXPECT_TRUE(Contents(*store_).empty());
}

TEST_F(SnapshotRestoreTest, AnotherApplicationsIsRefused) {
  PutUsers(SomeUsers(2));
  PutWatermark(6, "other, clicks");
  const Error error = Refused();
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error.message(),
            "snapshots.topic: freshet-snapshots[0] offset 2: holds the snapshot of other, clicks, expected that of "
            "freshet, events; each application needs a snapshot topic of its own");
}

TEST_F(SnapshotRestoreTest, AnotherApplicationsIsRefusedAlsoWhereOursIsNewer) {
  PutUsers(SomeUsers(2));
  PutWatermark(6, "other, clicks");
  PutWatermark(2);
  EXPECT_THAT(Refused().message(), HasSubstr("each application needs a snapshot topic of its own"));
}

TEST_F(SnapshotRestoreTest, ADamagedRecordIsNamed) {
  PutUsers(SomeUsers(5));
  PutWatermark(15);
  topic_.partitions[0][3].back() ^= 1;
  const Error error = Refused();
  EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(error.message(), HasSubstr("freshet-snapshots[0] offset 3: snapshot record: its checksum"));
  EXPECT_THAT(error.message(), HasSubstr("name another topic in snapshots.topic"));
}

TEST_F(SnapshotRestoreTest, AWatermarkWithoutAPositionIsNamed) {
  PutUsers(SomeUsers(1));
  const std::string key = WatermarkKey(kWhose);
  Put(key, EncodeSnapshot(key, "short"));
  const Error error = Refused();
  EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(error.message(), HasSubstr("freshet-snapshots[0] offset 1: snapshot record: a watermark"));
}

TEST_F(SnapshotRestoreTest, TellsWhetherASnapshotHasAnyRecord) {
  EXPECT_TRUE(SnapshotRestore::IsEmpty(std::make_unique<MemorySource>(topic_)).value());
  PutWatermark(1);
  EXPECT_FALSE(SnapshotRestore::IsEmpty(std::make_unique<MemorySource>(topic_)).value());
}

TEST_F(SnapshotRestoreTest, TheNewestWatermarkIsSearchedInSlices) {
  PutWatermark(30);
  PutUsers(SomeUsers(2500));
  PutWatermark(70);
  WatermarkSearch search(std::make_unique<MemorySource>(topic_), "events[0]", std::string(kWhose));
  int steps = 1;
  for (; !search.Step(milliseconds(0)).value(); ++steps) EXPECT_EQ(search.position(), Offset{30});
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(search.position(), Offset{70});
}

}  // namespace
}  // namespace freshet
