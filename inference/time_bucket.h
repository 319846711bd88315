// The bounds of the time buckets (docs/model-format.md, "Time bucket"), and a table that finds a bucket without search.
#pragma once

#include <array>
#include <cstdint>

namespace freshet {

// Bucket b begins at kTimeThresholds[b] seconds; bucket 1 holds no whole second.
extern const std::array<int64_t, 129> kTimeThresholds;

// For distances 1..kCap-1: a float's exponent and two top mantissa bits name a bin that is narrower than a bucket, so
// that the bucket is the bin's candidate or the next one, and one comparison of integers decides.
struct BucketTable {
  static constexpr uint64_t kCap = 0x7FFFFFFF;
  static constexpr int kShift = 21;  // of a float's bits, to the bin
  static constexpr int kFirstBin = 127 << 2;
  static constexpr int kBins = 128;

  std::array<int32_t, kBins> candidate;
  std::array<int32_t, kBins> next_threshold;  // bound between the candidate and the bucket after it

  static const BucketTable& Get();
};

}  // namespace freshet
