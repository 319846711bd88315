// How far figures can be trusted: users are the unit, since one user's cases are not independent of each other.
//
// Intervals: bootstrap over users (Efron 1979) with Poisson(1) weights, 95 %, by percentiles. Differences: the same
// resamples for both predictors, and a permutation test that swaps the two for each user at random.
// The same seed gives the same figures, whatever the number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pipeline/evaluation/ranking.h"

namespace freshet {

inline constexpr std::array<const char*, 3> kTestedMetrics = {"hr@10", "ndcg@10", "mrr"};
inline constexpr int kResamples = 1000;
inline constexpr int kPermutations = 10'000;
inline constexpr double kSignificant = .05;

struct Interval {
  double low = 0;
  double high = 0;
};

struct Difference {
  double difference = 0;  // second less first
  Interval interval;
  // Of the first's mean: the difference and its interval, by the same resamples. Absent where that is 0.
  struct Relative {
    double difference = 0;
    Interval interval;
  };
  std::optional<Relative> relative;
  double p = 1;  // two-sided: how often differences with users swapped at random are as large

  bool significant() const { return p < kSignificant; }
};

// Of a figure to the best of others'.
struct Ratio {
  size_t best = 0;   // which of the others has the largest mean
  double ratio = 0;  // 0 where that is 0
  Interval interval;
};
using Ratios = std::array<Ratio, kTestedMetrics.size()>;

struct Uncertainty {
  std::vector<std::array<Interval, kTestedMetrics.size()>> intervals;  // by outcome and metric
  std::array<Difference, kTestedMetrics.size()> differences;           // of the first two outcomes, where asked for
};

Uncertainty Judge(std::span<const Case> cases, std::span<const Outcome> outcomes, bool compare_first_two, uint64_t seed,
                  int threads, const Tell& tell);

// Of the first outcome to the best of the others, by metric. Intervals: of the ratio to that one, on the same
// resamples.
Ratios OverBest(std::span<const Case> cases, std::span<const Outcome> outcomes, uint64_t seed, int threads,
                const Tell& tell);

}  // namespace freshet
