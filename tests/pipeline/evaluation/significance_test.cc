#include "pipeline/evaluation/significance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tests/support/seed.h"

namespace freshet {
namespace {

void Ignore(const Part&) {}

struct Sample {
  std::vector<Case> cases;
  std::vector<Outcome> outcomes;
};

// `users` with `each` cases, hits of rank 1 at these rates; a user's cases end alike.
Sample MakeSample(uint32_t users, size_t each, const std::vector<double>& rates, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform;
  Sample sample;
  sample.outcomes.resize(rates.size());
  for (uint32_t user = 0; user < users; ++user) {
    std::vector<uint32_t> ranks;
    for (const double rate : rates) ranks.push_back(uniform(random) < rate ? 1 : 0);
    for (size_t i = 0; i < each; ++i) {
      sample.cases.emplace_back().user = user;
      for (size_t o = 0; o < rates.size(); ++o) sample.outcomes[o].ranks.push_back(ranks[o]);
    }
  }
  return sample;
}

TEST(Significance, IntervalsAreThoseOfTheBinomialOverUsers) {
  for (const size_t each : {1, 5}) {  // more cases of the same users tell nothing new
    const Sample sample = MakeSample(2000, each, {.3}, TestSeed());
    const Interval interval = Judge(sample.cases, sample.outcomes, false, 1, 2, Ignore).intervals[0][0];
    double hits = 0;
    for (const uint32_t rank : sample.outcomes[0].ranks) hits += rank;
    const double mean = hits / static_cast<double>(sample.cases.size());
    const double expected = 1.96 * std::sqrt(mean * (1 - mean) / 2000);
    EXPECT_NEAR(interval.low, mean - expected, .15 * expected);
    EXPECT_NEAR(interval.high, mean + expected, .15 * expected);
  }
}

TEST(Significance, ADifferenceIsFound) {
  const Sample sample = MakeSample(1000, 2, {.3, .4}, TestSeed());
  const Difference difference = Judge(sample.cases, sample.outcomes, true, 1, 2, Ignore).differences[0];
  EXPECT_NEAR(difference.difference, .1, .07);
  EXPECT_LT(difference.interval.low, difference.difference);
  EXPECT_GT(difference.interval.high, difference.difference);
  EXPECT_TRUE(difference.significant());
  ASSERT_TRUE(difference.relative);
  EXPECT_NEAR(difference.relative->difference, difference.difference / .3, .1);
  EXPECT_LT(difference.relative->interval.low, difference.relative->difference);
  EXPECT_GT(difference.relative->interval.high, difference.relative->difference);
}

TEST(Significance, WhereThereIsNoneItIsSeldomFound) {
  int found = 0;
  for (uint64_t round = 0; round < 100; ++round) {
    const Sample sample = MakeSample(100, 1, {.3, .3}, TestSeed() + round);
    found += Judge(sample.cases, sample.outcomes, true, 1, 2, Ignore).differences[0].significant() ? 1 : 0;
  }
  EXPECT_LE(found, 13);  // 5 expected; more than 13 of 100 come up once in two thousand
}

TEST(Significance, TheSameTwiceIsNoDifference) {
  const Sample sample = MakeSample(50, 3, {.3}, TestSeed());
  const std::vector<Outcome> twice = {sample.outcomes[0], sample.outcomes[0]};
  for (const Difference& difference : Judge(sample.cases, twice, true, 1, 1, Ignore).differences) {
    EXPECT_EQ(difference.difference, 0);
    EXPECT_EQ(difference.interval.low, 0);
    EXPECT_EQ(difference.interval.high, 0);
    EXPECT_EQ(difference.p, 1);
    ASSERT_TRUE(difference.relative);
    EXPECT_EQ(difference.relative->difference, 0);
    EXPECT_EQ(difference.relative->interval.low, 0);
    EXPECT_EQ(difference.relative->interval.high, 0);
  }
}

// Of four users, three gain and one loses as much: 10 of the 16 ways to swap are as large.
TEST(Significance, PermutationsByHand) {
  Sample sample = MakeSample(4, 1, {0, 0}, 1);
  sample.outcomes[0].ranks = {0, 0, 0, 1};
  sample.outcomes[1].ranks = {1, 1, 1, 0};
  EXPECT_NEAR(Judge(sample.cases, sample.outcomes, true, 1, 1, Ignore).differences[0].p, 10.0 / 16, .02);
}

TEST(Significance, ARatioIsToTheBestOfTheOthers) {
  const Sample sample = MakeSample(2000, 1, {.4, .2, .3}, TestSeed());
  const Ratio ratio = OverBest(sample.cases, sample.outcomes, 1, 2, Ignore)[0];
  EXPECT_EQ(ratio.best, 1U);
  std::vector<double> hits;
  for (const Outcome& outcome : sample.outcomes) {
    hits.push_back(static_cast<double>(std::count(outcome.ranks.begin(), outcome.ranks.end(), 1U)));
  }
  EXPECT_NEAR(ratio.ratio, hits[0] / hits[2], 1e-12);
  // The delta method; the two are independent here.
  const double spread = 1.96 * ratio.ratio * std::sqrt((1 - .4) / .4 / 2000 + (1 - .3) / .3 / 2000);
  EXPECT_NEAR(ratio.interval.low, ratio.ratio - spread, .2 * spread);
  EXPECT_NEAR(ratio.interval.high, ratio.ratio + spread, .2 * spread);
}

TEST(Significance, NoRatioToNothing) {
  const Sample sample = MakeSample(10, 1, {1, 0}, 1);
  EXPECT_EQ(OverBest(sample.cases, sample.outcomes, 1, 1, Ignore)[0].ratio, 0);
}

TEST(Significance, NothingIsRelativeToNothing) {
  const Sample sample = MakeSample(10, 1, {0, 1}, 1);
  const Difference difference = Judge(sample.cases, sample.outcomes, true, 1, 1, Ignore).differences[0];
  EXPECT_EQ(difference.difference, 1);
  EXPECT_FALSE(difference.relative);
}

// The parts in order, each from its beginning on: what a progress shows.
TEST(Significance, TellsHowFarItIs) {
  const Sample sample = MakeSample(10, 1, {0, 1}, 1);
  std::vector<std::string> parts;
  int64_t done = 0;
  Judge(sample.cases, sample.outcomes, true, 1, 2, [&](const Part& part) {
    if (parts.empty() || parts.back() != part.what) {
      parts.push_back(part.what);
      done = -1;
    }
    EXPECT_GT(part.done, done);
    EXPECT_LT(part.done, part.total);
    done = part.done;
  });
  EXPECT_EQ(parts, (std::vector<std::string>{"intervals", "test of hr@10", "test of ndcg@10", "test of mrr"}));
}

TEST(Significance, OneUserIsEnough) {
  const Sample sample = MakeSample(1, 1, {1}, 1);
  const Interval interval = Judge(sample.cases, sample.outcomes, false, 1, 1, Ignore).intervals[0][0];
  EXPECT_EQ(interval.low, 1);
  EXPECT_EQ(interval.high, 1);
}

}  // namespace
}  // namespace freshet
