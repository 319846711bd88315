// Random operations on a store against a plain map, thousands of them; the seed is printed at the program's start.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr int kUsers = 60;

class Driver {
 public:
  Driver(UserStateStore& store, size_t history, uint64_t seed) : store_(&store), history_(history), random_(seed) {}

  void Use(UserStateStore& store) { store_ = &store; }

  // Some users at once, each with some events; now and then one that was taken in before, or whose id was.
  void AppendBatch() {
    std::vector<std::string> ids;
    for (uint64_t n = 1 + random_() % 10; n > 0; --n) ids.push_back("user-" + std::to_string(random_() % kUsers));
    const std::vector<std::string_view> views(ids.begin(), ids.end());
    const auto loaded = store_->Load(views);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(Plain(*(*loaded)[i]), now_[ids[i]].Newest(history_)) << ids[i];
      for (uint64_t n = random_() % 4; n > 0; --n) {
        const bool repeat = random_() % 8 == 0 && next_ > 0;
        const Offset offset{repeat ? static_cast<int64_t>(random_() % static_cast<uint64_t>(next_)) : next_++};
        if (random_() % 16 == 0) {
          ASSERT_EQ((*loaded)[i]->Forget(offset), now_[ids[i]].Forget(offset));
          continue;
        }
        const Token token = RandomToken(random_);
        const EventIdHash id = RandomId(random_);
        ASSERT_EQ((*loaded)[i]->Append(token, offset, kUnknownItem, id), now_[ids[i]].Append(token, offset, id));
      }
    }
    // What a model's engine does between two calls: a cache that comes and grows.
    KeyValueCache& cache = (*loaded)[0]->key_values();
    cache.block_bytes = 1024;
    if (cache.blocks.size() < 4) cache.blocks.push_back(AllocateAlignedBytes(1024));
  }

  void Apply() {
    const Status applied = store_->Apply(Offset{next_});
    ASSERT_TRUE(applied.ok()) << applied.error().message();
    applied_ = now_;
    position_ = Offset{next_};
  }

  void Forget() {
    now_ = applied_;
    next_ = position_ ? Raw(*position_) : 0;
  }

  void Query() {
    const std::string id = "user-" + std::to_string(random_() % kUsers);
    const auto found = store_->Find(id);
    ASSERT_TRUE(found.ok()) << found.error().message();
    const PlainUser expected = now_[id].Newest(history_);
    ASSERT_EQ(*found != nullptr, expected.profile.events > 0) << id;
    if (*found != nullptr) {
      ASSERT_EQ(Plain(**found), expected) << id;
    }
  }

  void CheckDurable() {
    ASSERT_EQ(store_->Position(), position_);
    std::map<std::string, PlainUser> seen;
    ASSERT_TRUE(
        store_->ForEach([&](const UserState& user) { return seen.emplace(user.user_id(), Plain(user)).second; }).ok());
    for (const auto& [id, user] : applied_) {
      if (user.profile.events == 0) continue;
      ASSERT_TRUE(seen.contains(id)) << id;
      ASSERT_EQ(seen[id], user.Newest(history_)) << id;
      seen.erase(id);
    }
    ASSERT_TRUE(seen.empty());
  }

  uint64_t Draw(uint64_t bound) { return random_() % bound; }

 private:
  UserStateStore* store_;
  const size_t history_;
  std::mt19937_64 random_;
  std::map<std::string, PlainUser> now_;
  std::map<std::string, PlainUser> applied_;
  std::optional<Offset> position_;
  int64_t next_ = 0;
};

void Step(Driver& driver, UserStateStore& store) {
  switch (const uint64_t choice = driver.Draw(40)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return driver.Apply();
    case 4:
      store.Discard();
      return driver.Forget();
    case 5:
      return store.SetHotBytes(driver.Draw(4) == 0 ? 0 : driver.Draw(60'000));
    case 6:
      return driver.CheckDurable();
    default:
      return choice < 12 ? driver.Query() : driver.AppendBatch();
  }
}

TEST(StoreProperty, RocksDbEqualsAPlainMap) {
  for (uint64_t round = 0; round < 4; ++round) {
    const size_t history = round == 0 ? 1 : 1 + (TestSeed() + round * 7) % 30;
    const TemporaryDirectory directory;
    OnePartition partition(SmallOptions(directory.path(), history));
    Driver driver(partition.store(), history, TestSeed() + round);
    int64_t evictions = 0;
    for (int step = 0; step < 4000; ++step) {
      if (driver.Draw(150) == 0) {
        evictions += partition.store().Stats().evictions;
        partition.Reopen();
        driver.Use(partition.store());
        driver.Forget();
      }
      Step(driver, partition.store());
      if (testing::Test::HasFatalFailure()) FAIL() << "round " << round << ", step " << step;
    }
    EXPECT_GT(evictions, 100);
    driver.CheckDurable();
  }
}

TEST(StoreProperty, MemoryEqualsAPlainMap) {
  const auto store = MakeMemoryStore(9);
  Driver driver(*store, 9, TestSeed());
  for (int step = 0; step < 10'000; ++step) {
    Step(driver, *store);
    if (testing::Test::HasFatalFailure()) FAIL() << "step " << step;
  }
  driver.CheckDurable();
}

}  // namespace
}  // namespace freshet
