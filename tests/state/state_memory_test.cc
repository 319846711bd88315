// Memory is bounded by the configured caches, whatever the number of users.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

int64_t ResidentBytes() {
  int64_t size = 0;
  int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(StateMemory, AMillionUsersStayWithinTheBudget) {
  constexpr int kUsers = 1'000'000;
  constexpr size_t kBatch = 256;
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path(), 50);
  options.hot_cache_bytes = 256 * kMiB;
  options.block_cache_bytes = 64 * kMiB;
  options.write_buffer_bytes = 32 * kMiB;
  OnePartition partition(options);
  UserStateStore& store = partition.store();
  std::mt19937_64 random(TestSeed());
  const int64_t before = ResidentBytes();
  int64_t most = 0;
  int64_t offset = 0;
  // Everybody once in order, then as many random events: histories differ, and the budget is met again and again.
  while (offset < 2 * kUsers) {
    std::vector<std::string> ids;
    for (size_t i = 0; i < kBatch; ++i) {
      const int64_t next = offset + static_cast<int64_t>(i);
      ids.push_back("user-" + std::to_string(next < kUsers ? next : static_cast<int64_t>(random() % kUsers)));
    }
    const std::vector<std::string_view> views(ids.begin(), ids.end());
    const auto loaded = store.Load(views);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    for (UserState* const user : *loaded) {
      for (int event = 0; event < 3; ++event) {
        user->Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset * 3 + event}, kUnknownItem);
      }
      ++offset;
    }
    if (offset % (kBatch * 16) == 0) {
      ASSERT_TRUE(store.Apply(Offset{offset * 3}).ok());
    }
    if (offset % (kBatch * 256) == 0) most = std::max(most, ResidentBytes());
  }
  ASSERT_TRUE(store.Apply(Offset{offset * 3}).ok());
  const StoreStats stats = store.Stats();
  std::cout << "resident " << (most - before) / kMiB << " MiB above " << before / kMiB << " MiB; hot "
            << stats.hot_bytes / kMiB << " MiB in " << stats.hot_users << " users; on disk " << stats.estimated_users
            << " users, " << stats.disk_bytes / kMiB << " MiB\n";
  EXPECT_LT(stats.hot_users, kUsers);
  EXPECT_LE(stats.hot_bytes, 256 * kMiB);
  EXPECT_LE(most - before, (256 + 64 + 100) * kMiB);
}

}  // namespace
}  // namespace freshet
