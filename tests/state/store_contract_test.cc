// What state/store.h promises, on the memory store and on RocksDB.
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "state/codec.h"
#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr size_t kHistory = 8;

// A store under test; Restart() is what a restart of the process leaves (a memory store: nothing to do).
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual UserStateStore& store() = 0;
  virtual void Restart() = 0;
};

class MemoryUnderTest : public StoreUnderTest {
 public:
  UserStateStore& store() override { return *store_; }
  void Restart() override {}

 private:
  std::unique_ptr<UserStateStore> store_ = MakeMemoryStore(kHistory);
};

class RocksDbUnderTest : public StoreUnderTest {
 public:
  UserStateStore& store() override { return partition_.store(); }
  void Restart() override { partition_.Reopen(); }

 private:
  TemporaryDirectory directory_;
  OnePartition partition_{SmallOptions(directory_.path(), kHistory)};
};

using Make = std::function<std::unique_ptr<StoreUnderTest>()>;

std::vector<StoredUser> AsSnapshot(const std::map<std::string, std::string>& users) {
  std::vector<StoredUser> snapshot;
  for (const auto& [id, bytes] : users) snapshot.push_back({.id = id, .bytes = bytes});
  return snapshot;
}

class StoreContract : public testing::TestWithParam<std::pair<std::string, Make>> {
 protected:
  UserStateStore& store() { return under_test_->store(); }
  void Restart() { under_test_->Restart(); }
  // Another store, which is empty.
  void StartAnew() { under_test_ = GetParam().second(); }

  std::vector<UserState*> Load(const std::vector<std::string_view>& users) {
    const auto loaded = store().Load(users);
    if (!loaded.ok()) throw std::runtime_error(loaded.error().message());
    return {loaded->begin(), loaded->end()};
  }
  UserState* Find(std::string_view user) {
    const auto found = store().Find(user);
    if (!found.ok()) throw std::runtime_error(found.error().message());
    return *found;
  }
  Appended Take(std::string_view user, int64_t offset, EventIdHash id) {
    return Load({user})[0]->Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset}, kUnknownItem, id);
  }
  bool Append(std::string_view user, int64_t offset) { return Take(user, offset, kNoEventId) == Appended::kTaken; }
  void Apply(int64_t position) {
    const Status applied = store().Apply(Offset{position});
    ASSERT_TRUE(applied.ok()) << applied.error().message();
  }
  std::vector<std::string> DurableIds() {
    std::vector<std::string> ids;
    const Status status = store().ForEach([&](const UserState& user) {
      ids.push_back(user.user_id());
      return true;
    });
    EXPECT_TRUE(status.ok());
    return ids;
  }
  // One slice; `decoded` takes what its bytes say. Returns whether more users follow.
  bool Scan(std::string& after, size_t limit, std::vector<std::pair<std::string, PlainUser>>& decoded) {
    const auto more = store().Scan(after, limit, [&](const StoredUser& stored) {
      UserState user(std::string(stored.id), kHistory);
      EXPECT_TRUE(StateCodec::Decode(stored.bytes, user).ok());
      EXPECT_EQ(stored.applied_offset, user.applied_offset());
      decoded.emplace_back(stored.id, Plain(user));
      return true;
    });
    if (!more.ok()) throw std::runtime_error(more.error().message());
    return *more;
  }
  // All durable users as they are stored, by slices of `limit`.
  std::map<std::string, std::string> StoredUsers(size_t limit = 7) {
    std::map<std::string, std::string> users;
    std::string after;
    const auto keep = [&](const StoredUser& user) { return users.emplace(user.id, user.bytes), true; };
    while (store().Scan(after, limit, keep).value()) continue;
    return users;
  }
  // Events of some users, over several applies; what the store holds then.
  std::map<std::string, PlainUser> FillAtRandom(int64_t events) {
    std::mt19937_64 random(TestSeed());
    std::map<std::string, PlainUser> users;
    for (int64_t offset = 0; offset < events; ++offset) {
      const std::string id = "u" + std::to_string(random() % 40) + std::string(random() % 3, '\0');
      const EventIdHash event_id = RandomId(random);
      Take(id, offset, event_id);
      users[id].Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset}, event_id);
      if (random() % 10 == 0) Apply(offset + 1);
    }
    Apply(events);
    for (auto& [id, user] : users) user = user.Newest(kHistory);
    return users;
  }

 private:
  std::unique_ptr<StoreUnderTest> under_test_ = GetParam().second();
};

TEST_P(StoreContract, ANewStoreHasNoPositionAndNoUsers) {
  EXPECT_EQ(store().Position(), std::nullopt);
  EXPECT_TRUE(DurableIds().empty());
  EXPECT_EQ(Find("nobody"), nullptr);
  const UserState* const user = Load({"nobody"})[0];
  EXPECT_EQ(user->user_id(), "nobody");
  EXPECT_EQ(user->applied_offset(), Offset{-1});
  EXPECT_TRUE(user->tokens().empty());
}

TEST_P(StoreContract, AppliedUsersAndPositionComeBack) {
  for (int64_t offset = 0; offset < 20; ++offset) Append(offset % 3 == 0 ? "a" : "b", offset);
  const PlainUser a = Plain(*Load({"a"})[0]);
  const PlainUser b = Plain(*Load({"b"})[0]);
  Apply(20);
  Restart();
  EXPECT_EQ(store().Position(), Offset{20});
  const auto users = Load({"b", "a", "c"});
  EXPECT_EQ(Plain(*users[0]), b);
  EXPECT_EQ(Plain(*users[1]), a);
  EXPECT_EQ(Plain(*users[2]), PlainUser());
  EXPECT_EQ(users[1]->applied_offset(), Offset{18});
  EXPECT_EQ(users[1]->profile().events, 7);
}

TEST_P(StoreContract, DeltasOfManyAppliesAddUp) {
  PlainUser plain;
  for (int64_t offset = 0; offset < 100; ++offset) {
    ASSERT_TRUE(Append("a", offset));
    plain.Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset});
    if (offset % 3 == 0) Apply(offset + 1);
    if (offset % 10 == 0 && offset % 3 == 0) Restart();
  }
  Apply(100);
  Restart();
  EXPECT_EQ(Plain(*Load({"a"})[0]), plain.Newest(kHistory));
}

TEST_P(StoreContract, RepeatedUsersAreOneUser) {
  const auto users = Load({"a", "b", "a", "a"});
  ASSERT_EQ(users.size(), 4u);
  EXPECT_EQ(users[0], users[2]);
  EXPECT_EQ(users[0], users[3]);
  EXPECT_NE(users[0], users[1]);
  users[0]->Append(TestToken(1), Offset{1}, kUnknownItem);
  users[2]->Append(TestToken(2), Offset{2}, kUnknownItem);
  Apply(3);
  Restart();
  EXPECT_EQ(Load({"a"})[0]->profile().events, 2);
  EXPECT_EQ(Load({"a", "a"})[1]->profile().events, 2);
}

TEST_P(StoreContract, LoadKeepsWhatWasAppendedBeforeTheApply) {
  Append("a", 0);
  Append("b", 1);
  EXPECT_EQ(Load({"a"})[0]->profile().events, 1);
  Append("a", 2);
  EXPECT_EQ(Load({"b", "a"})[1]->profile().events, 2);
  EXPECT_EQ(store().Stats().unsaved_users, 2);
  EXPECT_GT(store().Stats().unsaved_bytes, 0);
  Apply(3);
  EXPECT_EQ(store().Stats().unsaved_users, 0);
  EXPECT_EQ(store().Stats().unsaved_bytes, 0);
}

TEST_P(StoreContract, DiscardReturnsToWhatWasApplied) {
  Append("a", 0);
  Apply(1);
  Append("a", 1);
  Append("b", 2);
  store().Discard();
  EXPECT_EQ(store().Position(), Offset{1});
  EXPECT_EQ(store().Stats().unsaved_users, 0);
  EXPECT_EQ(Load({"a"})[0]->profile().events, 1);
  EXPECT_EQ(Load({"a"})[0]->applied_offset(), Offset{0});
  EXPECT_EQ(Find("b"), nullptr);
  // The retry is taken in once.
  EXPECT_TRUE(Append("a", 1));
  EXPECT_TRUE(Append("b", 2));
  Apply(3);
  Restart();
  EXPECT_EQ(Load({"a"})[0]->profile().events, 2);
  EXPECT_EQ(Load({"b"})[0]->profile().events, 1);
}

TEST_P(StoreContract, ReplayChangesNothing) {
  for (int64_t offset = 0; offset < 10; ++offset) Append("a", offset);
  Apply(5);  // state may be ahead of the position that it stores
  Restart();
  const PlainUser before = Plain(*Load({"a"})[0]);
  for (int64_t offset = 5; offset < 10; ++offset) EXPECT_FALSE(Append("a", offset));
  EXPECT_EQ(Plain(*Load({"a"})[0]), before);
  Apply(10);
  EXPECT_EQ(store().Position(), Offset{10});
}

TEST_P(StoreContract, EventIdsOfManyAppliesComeBack) {
  PlainUser plain;
  for (int64_t offset = 0; offset < 200; ++offset) {
    const EventIdHash id = TestId(static_cast<uint64_t>(offset));
    ASSERT_EQ(Take("a", offset, id), Appended::kTaken);
    plain.Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset}, id);
    if (offset % 3 == 0) Apply(offset + 1);
    if (offset % 30 == 0) Restart();
  }
  Apply(200);
  Restart();
  EXPECT_EQ(Plain(*Load({"a"})[0]), plain.Newest(kHistory));
  EXPECT_EQ(Take("a", 200, TestId(136)), Appended::kDuplicate);
  EXPECT_EQ(store().Stats().unsaved_users, 0);
  EXPECT_EQ(Take("a", 201, TestId(135)), Appended::kTaken);
  EXPECT_EQ(Take("b", 202, TestId(199)), Appended::kTaken) << "ids are each user's own";
}

TEST_P(StoreContract, DiscardForgetsEventIds) {
  ASSERT_EQ(Take("a", 0, TestId(1)), Appended::kTaken);
  Apply(1);
  ASSERT_EQ(Take("a", 1, TestId(2)), Appended::kTaken);
  store().Discard();
  EXPECT_EQ(Take("a", 1, TestId(1)), Appended::kDuplicate);
  EXPECT_EQ(Take("a", 2, TestId(2)), Appended::kTaken);
}

TEST_P(StoreContract, FindNeitherCreatesNorCounts) {
  Append("a", 0);
  ASSERT_NE(Find("a"), nullptr);  // changed, not yet applied
  Apply(1);
  Restart();
  const StoreStats before = store().Stats();
  EXPECT_EQ(Find("b"), nullptr);
  EXPECT_EQ(store().FindHot("b"), nullptr);
  const bool hot = store().FindHot("a") != nullptr;  // in memory it is where the store has no disk
  EXPECT_EQ(hot, store().Stats().hot_users == 1);
  ASSERT_NE(Find("a"), nullptr);
  ASSERT_NE(store().FindHot("a"), nullptr);
  EXPECT_EQ(store().FindHot("a"), Find("a"));
  EXPECT_EQ(Find("a")->profile().events, 1);
  EXPECT_EQ(store().Stats().hits, before.hits);
  EXPECT_EQ(store().Stats().misses, before.misses);
  EXPECT_EQ(DurableIds(), std::vector<std::string>{"a"});
}

TEST_P(StoreContract, AChangeThroughFindIsApplied) {
  Append("a", 0);
  Apply(1);
  Restart();
  Find("a")->Append(TestToken(1), Offset{1}, kUnknownItem);
  Apply(2);
  Restart();
  EXPECT_EQ(Load({"a"})[0]->profile().events, 2);
}

TEST_P(StoreContract, ForEachGoesByIdThroughWhatIsApplied) {
  const std::vector<std::string> ids = {"", std::string("a\0b", 3), "ab", "b", "u", "\x7f", "\xc3\xa4", "\xff\xff"};
  int64_t offset = 0;
  for (size_t i = 0; i < ids.size(); ++i) Append(ids[(i * 3) % ids.size()], offset++);
  Apply(offset);
  Append("unsaved", offset);
  Load({"loaded only"});
  EXPECT_EQ(DurableIds(), ids);
  int visited = 0;
  ASSERT_TRUE(store().ForEach([&](const UserState&) { return ++visited < 3; }).ok());
  EXPECT_EQ(visited, 3);

  std::vector<std::string> behind;
  const auto visit = [&](const UserState& user) { return behind.push_back(user.user_id()), true; };
  for (size_t i = 0; i < ids.size(); ++i) {
    behind.clear();
    ASSERT_TRUE(store().ForEach(visit, ids[i]).ok());
    EXPECT_EQ(behind, std::vector<std::string>(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1, ids.end()));
  }
  behind.clear();
  ASSERT_TRUE(store().ForEach(visit, "between").ok());
  EXPECT_EQ(behind.front(), "u");
}

TEST_P(StoreContract, SlicesOfAnySizeVisitEachUserOnceInOrder) {
  const std::map<std::string, PlainUser> users = FillAtRandom(600);
  const std::vector<std::pair<std::string, PlainUser>> expected(users.begin(), users.end());
  Restart();
  for (size_t limit = 1; limit <= expected.size() + 1; ++limit) {
    std::vector<std::pair<std::string, PlainUser>> seen;
    std::string after;
    for (bool more = true; more;) {
      const size_t before = seen.size();
      more = Scan(after, limit, seen);
      ASSERT_EQ(seen.size() - before, std::min(limit, expected.size() - before));
      ASSERT_EQ(after, seen.back().first);
      ASSERT_EQ(more, seen.size() < expected.size()) << "a slice that ends with the last user says so";
    }
    ASSERT_EQ(seen, expected) << "slices of " << limit;
    EXPECT_FALSE(Scan(after, limit, seen)) << "nothing is behind the last";
    EXPECT_EQ(seen.size(), expected.size());
  }
}

TEST_P(StoreContract, AScanThatIsBrokenOffGoesOnBehindTheUserVisitedLast) {
  const std::map<std::string, PlainUser> users = FillAtRandom(200);
  std::vector<std::string> seen;
  std::string after;
  bool more = true;
  while (more) {
    int visited = 0;
    more = store()
               .Scan(after, 10, [&](const StoredUser& user) { return seen.emplace_back(user.id), ++visited < 3; })
               .value();
  }
  std::vector<std::string> expected;
  for (const auto& [id, user] : users) expected.push_back(id);
  EXPECT_EQ(seen, expected);
}

TEST_P(StoreContract, AScanSeesOnlyWhatIsApplied) {
  std::vector<std::pair<std::string, PlainUser>> seen;
  std::string after;
  EXPECT_FALSE(Scan(after, 10, seen)) << "an empty store";
  Append("a", 0);
  Append("c", 1);
  Apply(2);
  Append("a", 2);
  Append("b", 3);
  Load({"d"});
  EXPECT_FALSE(Scan(after, 10, seen));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].first, "a");
  EXPECT_EQ(seen[0].second.applied_offset, Offset{0});
  EXPECT_EQ(seen[1].first, "c");
  // A user that comes while a scan is under way is seen if the scan has yet to pass it.
  seen.clear();
  after = "a";
  Apply(4);
  EXPECT_FALSE(Scan(after, 10, seen));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].first, "b");
}

TEST_P(StoreContract, RestoredUsersAndTheirPositionAreDurableWithTheApply) {
  const std::map<std::string, PlainUser> users = FillAtRandom(600);
  const std::map<std::string, std::string> stored = StoredUsers();
  ASSERT_EQ(stored.size(), users.size());
  StartAnew();
  const std::vector<StoredUser> snapshot = AsSnapshot(stored);
  const size_t half = snapshot.size() / 2;
  // A snapshot may hold a user several times; the last one counts.
  const StoredUser older{.id = snapshot[0].id, .bytes = snapshot[1].bytes};
  ASSERT_TRUE(store().Restore({&older, 1}).ok());
  ASSERT_TRUE(store().Restore(std::span(snapshot).first(half)).ok());
  ASSERT_TRUE(store().Restore(std::span(snapshot).subspan(half)).ok());
  EXPECT_EQ(store().Position(), std::nullopt);
  store().SetSnapshotPosition(Offset{550});
  Apply(550);
  Restart();
  EXPECT_EQ(store().Position(), Offset{550});
  EXPECT_EQ(store().SnapshotPosition(), Offset{550});
  EXPECT_EQ(StoredUsers(), stored);
  for (const auto& [id, user] : users) EXPECT_EQ(Plain(*Load({id})[0]), user) << id;
  // They go on as if they had grown here.
  const std::string& id = users.begin()->first;
  PlainUser next = users.begin()->second;
  ASSERT_TRUE(Append(id, 600));
  next.Append(TestToken(600), Offset{600});
  Apply(601);
  Restart();
  EXPECT_EQ(Plain(*Load({id})[0]), next.Newest(kHistory));
}

TEST_P(StoreContract, TheSnapshotPositionIsDurableWithTheApply) {
  EXPECT_EQ(store().SnapshotPosition(), std::nullopt);
  Append("a", 0);
  Apply(5);
  EXPECT_EQ(store().SnapshotPosition(), std::nullopt) << "a position of its own";
  store().SetSnapshotPosition(Offset{3});
  EXPECT_EQ(store().SnapshotPosition(), Offset{3});
  Apply(5);
  Restart();
  EXPECT_EQ(store().Position(), Offset{5});
  EXPECT_EQ(store().SnapshotPosition(), Offset{3});
  Apply(7);
  Restart();
  EXPECT_EQ(store().SnapshotPosition(), Offset{3}) << "kept by applies that know no new one";
}

TEST_P(StoreContract, DiscardForgetsANewSnapshotPosition) {
  store().SetSnapshotPosition(Offset{3});
  store().Discard();
  EXPECT_EQ(store().SnapshotPosition(), std::nullopt);
  store().SetSnapshotPosition(Offset{4});
  Apply(4);
  store().SetSnapshotPosition(Offset{9});
  store().Discard();
  EXPECT_EQ(store().SnapshotPosition(), Offset{4});
  Apply(10);
  Restart();
  EXPECT_EQ(store().SnapshotPosition(), Offset{4});
}

TEST_P(StoreContract, PositionNeverGoesBack) {
  Apply(7);
  EXPECT_FALSE(store().Apply(Offset{6}).ok());
  EXPECT_EQ(store().Position(), Offset{7});
  Apply(7);
  Restart();
  EXPECT_EQ(store().Position(), Offset{7});
}

TEST_P(StoreContract, ManyUsersAtOnce) {
  std::vector<std::string> ids;
  for (int n = 0; n < 3000; ++n) ids.push_back("user-" + std::to_string(n % 2000));
  const std::vector<std::string_view> views(ids.begin(), ids.end());
  int64_t offset = 0;
  for (UserState* const user : Load(views)) {
    user->Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset}, kUnknownItem);
    ++offset;
  }
  Apply(offset);
  Restart();
  const auto users = Load(views);
  for (size_t n = 0; n < ids.size(); ++n) {
    ASSERT_EQ(users[n]->user_id(), ids[n]);
    ASSERT_EQ(users[n]->profile().events, n % 2000 < 1000 ? 2 : 1);
  }
  EXPECT_TRUE(Load({}).empty());
}

TEST_P(StoreContract, StatsCountHitsAndMisses) {
  Load({"a", "b"});
  Load({"a", "c", "b"});
  EXPECT_EQ(store().Stats().misses, 3);
  EXPECT_EQ(store().Stats().hits, 2);
  EXPECT_EQ(store().Stats().hot_users, 3);
  EXPECT_GT(store().Stats().hot_bytes, 0);
}

TEST_P(StoreContract, AForgottenUserIsGoneButForAnOffset) {
  for (int64_t n = 0; n < 5; ++n) Append("u1", n);
  Append("u2", 5);
  Apply(6);
  EXPECT_TRUE(Load({"u1"})[0]->Forget(Offset{6}));
  EXPECT_EQ(Find("u1"), nullptr);
  EXPECT_EQ(store().FindHot("u1"), nullptr);
  store().Discard();
  EXPECT_EQ(Find("u1")->profile().events, 5);
  EXPECT_TRUE(Load({"u1"})[0]->Forget(Offset{6}));
  Apply(7);
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(Find("u1"), nullptr);
    EXPECT_EQ(DurableIds(), std::vector<std::string>{"u2"});
    EXPECT_EQ(StoredUsers().size(), 2U);
    EXPECT_FALSE(Append("u1", 6)) << "what lies before is a repeat";
    Restart();
  }
  EXPECT_TRUE(Append("u1", 7));
  Apply(8);
  EXPECT_TRUE(Append("u1", 8));
  Apply(9);
  Restart();
  EXPECT_EQ(Find("u1")->profile().events, 2);
  EXPECT_EQ(Find("u1")->tokens().size(), 2U);
}

TEST_P(StoreContract, DropsWhatIsLeftOfTheForgotten) {
  Append("u1", 0);
  Append("u2", 1);
  Apply(2);
  for (const std::string_view user : {"u1", "u2"}) Load({user})[0]->Forget(Offset{2});
  Apply(3);
  EXPECT_EQ(store().SnapshottedUpTo(), Offset{0});
  store().SetSnapshotPosition(Offset{3});
  EXPECT_EQ(store().SnapshottedUpTo(), Offset{0}) << "not durable";
  Apply(3);
  EXPECT_EQ(store().SnapshottedUpTo(), Offset{3});
  const std::vector<std::string> ids = {"u1"};
  ASSERT_TRUE(store().DropForgotten(ids).ok());
  Restart();
  EXPECT_EQ(StoredUsers().size(), 1U);
  EXPECT_TRUE(Append("u1", 3));
  EXPECT_TRUE(Append("u2", 4));
  Apply(5);
  Restart();
  EXPECT_EQ(DurableIds(), (std::vector<std::string>{"u1", "u2"}));
}

TEST_P(StoreContract, ASnapshotMayTakeUsersAway) {
  Append("u1", 0);
  Append("u2", 1);
  Apply(2);
  const std::map<std::string, std::string> users = StoredUsers();
  StartAnew();
  ASSERT_TRUE(store().Restore(AsSnapshot(users)).ok());
  ASSERT_TRUE(store().Restore(AsSnapshot({{"u1", ""}, {"u3", ""}})).ok());
  Apply(2);
  Restart();
  EXPECT_EQ(DurableIds(), std::vector<std::string>{"u2"});
}

INSTANTIATE_TEST_SUITE_P(
    , StoreContract,
    testing::Values(std::pair<std::string, Make>("Memory", [] { return std::make_unique<MemoryUnderTest>(); }),
                    std::pair<std::string, Make>("RocksDb", [] { return std::make_unique<RocksDbUnderTest>(); })),
    [](const auto& kind) { return kind.param.first; });

}  // namespace
}  // namespace freshet
