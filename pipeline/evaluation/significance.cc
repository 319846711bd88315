#include "pipeline/evaluation/significance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <unordered_map>

#include "pipeline/evaluation/accuracy.h"

namespace freshet {
namespace {

// A Poisson(1) number, by the inverse of its distribution.
uint32_t PoissonOf(uint32_t random) {
  static const auto kBounds = [] {
    std::array<double, 12> bounds{};
    double probability = std::exp(-1.0), sum = 0;
    for (size_t i = 0; i < bounds.size(); ++i) {
      sum += probability;
      bounds[i] = sum * 4'294'967'296.0;
      probability /= static_cast<double>(i + 1);
    }
    return bounds;
  }();
  uint32_t weight = 0;
  while (weight < kBounds.size() && random >= kBounds[weight]) ++weight;
  return weight;
}

Interval Middle95(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
  };
  return {at(.025), at(.975)};
}

// Either may be 0 in a resample, though not in the log.
double Over(double value, double other) {
  if (other == 0) return value == 0 ? 1 : std::numeric_limits<double>::infinity();
  return value / other;
}

// A table of users' sums, to be resampled.
class UserSums {
 public:
  UserSums(std::span<const Case> cases, std::span<const Outcome> outcomes);

  size_t columns() const { return 1 + outcomes_ * kTestedMetrics.size(); }
  static size_t Column(size_t outcome, size_t metric) { return 1 + outcome * kTestedMetrics.size() + metric; }
  double Mean(size_t column) const;
  // [resamples, columns]
  std::vector<double> ResampledMeans(uint64_t seed, int threads, const Tell& tell) const;
  // Of the first two outcomes.
  double PermutationP(size_t metric, uint64_t seed, const Tell& tell) const;

 private:
  void Resample(uint64_t seed, std::span<double> means) const;

  size_t outcomes_;
  size_t users_ = 0;
  std::vector<double> sums_;  // [users, columns]: cases, then each outcome's metrics
};

UserSums::UserSums(std::span<const Case> cases, std::span<const Outcome> outcomes) : outcomes_(outcomes.size()) {
  std::unordered_map<uint32_t, size_t> places;
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto [found, fresh] = places.try_emplace(cases[i].user, users_);
    if (fresh) sums_.resize(++users_ * columns());
    double* const sums = &sums_[found->second * columns()];
    sums[0] += 1;
    for (size_t o = 0; o < outcomes.size(); ++o) {
      const uint32_t rank = outcomes[o].ranks[i];
      sums[Column(o, 0)] += rank > 0 && rank <= 10 ? 1 : 0;
      sums[Column(o, 1)] += NdcgOf(rank, 10);
      sums[Column(o, 2)] += ReciprocalOf(rank);
    }
  }
}

void UserSums::Resample(uint64_t seed, std::span<double> means) const {
  std::mt19937_64 random(seed);
  do {  // a draw of nobody is none
    std::fill(means.begin(), means.end(), 0.0);
    for (size_t user = 0; user < users_; ++user) {
      const uint32_t weight = PoissonOf(static_cast<uint32_t>(random() >> 32));
      if (weight == 0) continue;
      for (size_t c = 0; c < columns(); ++c) means[c] += weight * sums_[user * columns() + c];
    }
  } while (means[0] == 0);
  for (size_t c = 1; c < columns(); ++c) means[c] /= means[0];
}

std::vector<double> UserSums::ResampledMeans(uint64_t seed, int threads, const Tell& tell) const {
  std::vector<double> means(kResamples * columns());
  const auto resample = [&](int i) {
    Resample(seed + static_cast<uint64_t>(i), std::span(means).subspan(static_cast<size_t>(i) * columns(), columns()));
  };
  std::vector<std::jthread> workers;  // joined where one more cannot be started, too
  for (int worker = 1; worker < threads; ++worker) {
    workers.emplace_back([&, worker] {
      for (int i = worker; i < kResamples; i += threads) resample(i);
    });
  }
  for (int i = 0; i < kResamples; i += threads) {  // the caller's share; the others are about as far
    resample(i);
    tell({"intervals", "resamples", i, kResamples});
  }
  for (std::jthread& worker : workers) worker.join();
  return means;
}

double UserSums::Mean(size_t column) const {
  double cases = 0, sum = 0;
  for (size_t user = 0; user < users_; ++user) {
    cases += sums_[user * columns()];
    sum += sums_[user * columns() + column];
  }
  return sum / cases;
}

double UserSums::PermutationP(size_t metric, uint64_t seed, const Tell& tell) const {
  const size_t first_column = Column(0, metric), second_column = Column(1, metric);
  std::vector<double> differences;
  double sum = 0, size = 0;
  for (size_t user = 0; user < users_; ++user) {
    const double difference = sums_[user * columns() + second_column] - sums_[user * columns() + first_column];
    if (difference == 0) continue;
    differences.push_back(difference);
    sum += difference;
    size += std::abs(difference);
  }
  const double bound = std::abs(sum) - 1e-12 * size;  // a sum that is the same but for rounding is as large
  std::mt19937_64 random(seed);
  int as_large = 0;
  for (int i = 0; i < kPermutations; ++i) {
    double swapped = 0;
    uint64_t bits = 0;
    for (size_t user = 0; user < differences.size(); ++user, bits >>= 1) {
      if (user % 64 == 0) bits = random();
      swapped += (bits & 1) != 0 ? differences[user] : -differences[user];
    }
    as_large += std::abs(swapped) >= bound ? 1 : 0;
    tell({std::string("test of ") + kTestedMetrics[metric], "permutations", i, kPermutations});
  }
  return (as_large + 1.0) / (kPermutations + 1.0);
}

}  // namespace

Uncertainty Judge(std::span<const Case> cases, std::span<const Outcome> outcomes, bool compare_first_two, uint64_t seed,
                  int threads, const Tell& tell) {
  const UserSums sums(cases, outcomes);
  const std::vector<double> means = sums.ResampledMeans(seed, threads, tell);
  std::vector<double> values(kResamples);
  const auto resampled = [&](size_t column, size_t i) { return means[i * sums.columns() + column]; };
  Uncertainty uncertainty;
  uncertainty.intervals.resize(outcomes.size());
  for (size_t outcome = 0; outcome < outcomes.size(); ++outcome) {
    for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = resampled(UserSums::Column(outcome, metric), i);
      uncertainty.intervals[outcome][metric] = Middle95(values);
    }
  }
  for (size_t metric = 0; compare_first_two && metric < kTestedMetrics.size(); ++metric) {
    const size_t first = UserSums::Column(0, metric), second = UserSums::Column(1, metric);
    Difference& difference = uncertainty.differences[metric];
    for (size_t i = 0; i < values.size(); ++i) values[i] = resampled(second, i) - resampled(first, i);
    difference.difference = sums.Mean(second) - sums.Mean(first);
    difference.interval = Middle95(values);
    difference.p = sums.PermutationP(metric, seed, tell);
    if (sums.Mean(first) == 0) continue;
    for (size_t i = 0; i < values.size(); ++i) values[i] = Over(resampled(second, i), resampled(first, i)) - 1;
    difference.relative = {difference.difference / sums.Mean(first), Middle95(values)};
  }
  return uncertainty;
}

Ratios OverBest(std::span<const Case> cases, std::span<const Outcome> outcomes, uint64_t seed, int threads,
                const Tell& tell) {
  const UserSums sums(cases, outcomes);
  const std::vector<double> means = sums.ResampledMeans(seed, threads, tell);
  Ratios ratios;
  for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
    const auto mean = [&](size_t outcome) { return sums.Mean(UserSums::Column(outcome, metric)); };
    size_t best = 1;
    for (size_t other = 2; other < outcomes.size(); ++other) best = mean(other) > mean(best) ? other : best;
    ratios[metric].best = best - 1;
    if (mean(best) == 0) continue;
    std::vector<double> values(kResamples);
    for (size_t i = 0; i < values.size(); ++i) {
      const double* const of_resample = &means[i * sums.columns()];
      values[i] = Over(of_resample[UserSums::Column(0, metric)], of_resample[UserSums::Column(best, metric)]);
    }
    ratios[metric].ratio = mean(0) / mean(best);
    ratios[metric].interval = Middle95(values);
  }
  return ratios;
}

}  // namespace freshet
