#include "pipeline/evaluation/accuracy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace freshet {
namespace {

TEST(Accuracy, ByHand) {
  const std::vector<Case> cases(4);
  const Accuracy accuracy = Measure(cases, std::vector<uint32_t>{1, 0, 10, 11});
  EXPECT_EQ(accuracy.cases, 4);
  EXPECT_DOUBLE_EQ(accuracy.mrr, (1 + .1 + 1.0 / 11) / 4);
  EXPECT_DOUBLE_EQ(accuracy.At(1).hr, .25);
  EXPECT_DOUBLE_EQ(accuracy.At(10).hr, .5);
  EXPECT_DOUBLE_EQ(accuracy.At(10).precision, .05);
  EXPECT_DOUBLE_EQ(accuracy.At(10).f1, 2 * .5 * .05 / (.5 + .05));
  EXPECT_DOUBLE_EQ(accuracy.At(10).ndcg, (1 + 1 / std::log2(11)) / 4);
  EXPECT_DOUBLE_EQ(accuracy.At(100).hr, .75);
}

TEST(Accuracy, OfNothingIsZero) {
  const Accuracy accuracy = Measure({}, {});
  EXPECT_EQ(accuracy.cases, 0);
  EXPECT_EQ(accuracy.At(10).hr, 0);
}

TEST(Accuracy, SlicesPartTheCases) {
  std::vector<Case> cases(3);
  cases[0].head = true;
  cases[1].history = 6;
  cases[2].new_user = cases[2].new_item = true;
  EXPECT_EQ(SlicesOf(false).size(), 4U);
  EXPECT_EQ(SlicesOf(true).size(), 8U);
  const std::vector<uint32_t> ranks = {1, 2, 3};
  for (size_t i = 0; i < SlicesOf(true).size(); i += 2) {
    int64_t of_both = 0;
    for (const Slice& slice : SlicesOf(true).subspan(i, 2)) of_both += Measure(cases, ranks, slice.holds).cases;
    EXPECT_EQ(of_both, 3) << SlicesOf(true)[i].name;
  }
  for (const Slice& slice : SlicesOf(true)) {
    if (std::strcmp(slice.name, "new_items") == 0) {
      EXPECT_DOUBLE_EQ(Measure(cases, ranks, slice.holds).mrr, 1.0 / 3);
    }
  }
}

TEST(Curve, MeansOfEachInterval) {
  std::vector<Case> cases(4);
  cases[0].now_ms = 0;
  cases[1].now_ms = 99;
  cases[2].now_ms = -1;
  cases[3].now_ms = 100;
  Outcome first, second;
  first.ranks = {1, 11, 0, 3};
  second.ranks = {2, 2, 10, 1};
  const Outcome outcomes[] = {first, second};
  const auto curve = CurveOf(cases, outcomes, 100);
  ASSERT_EQ(curve.size(), 3U);
  EXPECT_EQ(curve.at(0).cases, 2);
  EXPECT_EQ(curve.at(0).hr, (std::vector<double>{.5, 1}));
  EXPECT_EQ(curve.at(-100).hr, (std::vector<double>{0, 1}));
  EXPECT_DOUBLE_EQ(curve.at(100).ndcg[0], .5);
}

TEST(Ranking, TheBestOfManyAreASortsFirst) {
  Best best;
  for (const int distinct : {1, 7, 100'000}) {
    std::vector<std::pair<float, uint32_t>> all;
    best.Clear();
    uint64_t random = 1;
    for (uint32_t row = 1; row < 5000; ++row) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      const auto score = static_cast<float>((random >> 33) % static_cast<uint64_t>(distinct));
      all.emplace_back(-score, row);
      best.Offer(score, row);
    }
    std::sort(all.begin(), all.end());
    std::vector<uint32_t> top;
    best.Take(top);
    ASSERT_EQ(top.size(), 100U);
    for (size_t i = 0; i < top.size(); ++i) EXPECT_EQ(top[i], all[i].second);

    std::vector<float> scores(5000, -std::numeric_limits<float>::infinity());
    for (const auto& [score, row] : all) scores[row] = -score;
    std::vector<uint32_t> of_all;
    best.Clear();
    best.OfferAll(scores);
    best.Take(of_all);
    EXPECT_EQ(of_all, top);
  }
}

}  // namespace
}  // namespace freshet
