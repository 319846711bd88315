#include "inference/time_bucket.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "inference/engine.h"
#include "inference/kernels.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

TEST(TimeBucket, KnownEdges) {
  for (const auto& [delta, bucket] : {std::pair<int64_t, int>{0, 0},
                                      {1, 0},
                                      {2, 2},
                                      {3, 3},
                                      {60, 13},
                                      {3600, 27},
                                      {86400, 37},
                                      {315'360'000, 65},
                                      {54'012'937'709'959'664, 127},
                                      {54'012'937'709'959'665, 128},
                                      {std::numeric_limits<int64_t>::max(), 128}}) {
    EXPECT_EQ(TimeBucket(delta), bucket) << delta;
    EXPECT_EQ(TimeBucket(-delta), bucket) << -delta;
  }
  EXPECT_EQ(TimeBucket(std::numeric_limits<int64_t>::min()), 128);
}

// A float64 logarithm is right around every bound below 1.4e9 s, among them 417,901, where a float32 one first fails.
TEST(TimeBucket, EqualsTheLogarithmAroundEveryBound) {
  for (const int64_t bound : kTimeThresholds) {
    if (bound > 1'400'000'000) break;
    for (int64_t delta = bound - 2; delta <= bound + 2; ++delta) {
      const double distance = static_cast<double>(std::max<int64_t>(std::abs(delta), 1));
      EXPECT_EQ(TimeBucket(delta), static_cast<int>(std::floor(std::log(distance) / 0.301))) << delta;
    }
  }
  EXPECT_EQ(TimeBucket(417'901), 42);
  EXPECT_EQ(TimeBucket(417'902), 43);
}

TEST(TimeBucket, KernelEqualsScalarAtEveryBound) {
  std::vector<int64_t> deltas = {0, 1, 2, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
  const auto around = [&](int64_t value) {
    for (int64_t delta = value - 2; delta <= value + 2; ++delta) deltas.insert(deltas.end(), {delta, -delta});
  };
  for (const int64_t bound : kTimeThresholds) around(bound);
  for (int bit = 0; bit < 62; ++bit) {
    for (int quarter = 4; quarter < 8; ++quarter) around((int64_t{1} << bit) / 4 * quarter);
  }
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 10'000; ++i) deltas.push_back(static_cast<int64_t>(random() >> random() % 64));
  const int64_t now = 1'500'000'000;
  for (size_t first = 0; first < deltas.size();) {
    const size_t count = std::min<size_t>(1 + random() % 40, deltas.size() - first);
    std::vector<int64_t> times;
    for (size_t i = 0; i < count; ++i) {
      times.push_back(static_cast<int64_t>(static_cast<uint64_t>(now) - static_cast<uint64_t>(deltas[first + i])));
    }
    std::vector<uint8_t> buckets(count + kPad), expected(count);
    TimeBuckets(times.data(), count, now, buckets.data());
    plain::TimeBuckets(times.data(), count, now, expected.data());
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(buckets[i], expected[i]) << deltas[first + i];
      ASSERT_EQ(expected[i], TimeBucket(deltas[first + i]));
    }
    first += count;
  }
}

}  // namespace
}  // namespace freshet
