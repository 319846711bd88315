// The blend against a twin that counts everything anew for each case, in double.
#include "pipeline/evaluation/blend.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/pipeline/evaluation/evaluation_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

double Fade(double minutes, double half_life) { return std::exp2(-minutes / half_life); }

double MinutesSince(int64_t time_ms, int64_t now_ms) { return static_cast<double>(now_ms - time_ms) / 60'000; }

// By row; `known` events of the plan are taken in.
std::vector<double> PlainScores(const EvaluationPlan& plan, const Case& asked, const BlendOptions& blend,
                                size_t known) {
  const auto row_of = [&](size_t user, size_t event) { return Raw(plan.log->users[user].tokens[event].item); };
  const size_t items = plan.log->vocabulary.item_ids().size();
  std::vector<double> popularity(items), scores(items);
  double total = 0;
  const std::vector<ModelToken>& own = plan.log->users[asked.user].tokens;
  for (size_t i = 0; i < known; ++i) {
    const auto& [user, before, time_ms] = plan.events[i];
    const double minutes = MinutesSince(time_ms, asked.now_ms);
    popularity[row_of(user, before)] += Fade(minutes, blend.popularity_minutes);
    total += Fade(minutes, blend.popularity_minutes);
    if (asked.history == 0 || before == 0 || row_of(user, before - 1) != row_of(asked.user, asked.history - 1))
      continue;
    const double gap = std::max(0.0, MinutesSince(own[asked.history - 1].time_s * 1000, asked.now_ms));
    scores[row_of(user, before)] += Fade(gap, blend.gap_minutes) * Fade(minutes, blend.followers_minutes);
  }
  for (size_t row = 0; row < items && total > 0; ++row)
    scores[row] += blend.popularity_weight * popularity[row] / total;
  return scores;
}

// The least and the largest rank that rounding allows; {0, 0} is a miss. Less than 1e-15 may be nothing.
std::pair<uint32_t, uint32_t> PlainRank(const EvaluationPlan& plan, const Case& asked, const BlendOptions& blend,
                                        bool exclude_seen, bool leak = false) {
  const std::vector<double> scores = PlainScores(plan, asked, blend, asked.known + (leak ? 1 : 0));
  const std::vector<ModelToken>& own = plan.log->users[asked.user].tokens;
  std::vector<bool> candidate(scores.size());
  for (size_t i = 0; i < asked.known; ++i) {  // rows are in order of first appearance
    const auto& [user, before, time_ms] = plan.events[i];
    candidate[Raw(plan.log->users[user].tokens[before].item)] = true;
  }
  for (size_t i = 0; exclude_seen && i < asked.history; ++i) candidate[Raw(own[i].item)] = false;
  const uint32_t target = Raw(own[asked.history].item);
  if (!candidate[target]) return {0, 0};
  uint32_t least = 1, largest = 0;
  for (uint32_t row = 1; row < scores.size(); ++row) {
    if (!candidate[row]) continue;
    least += row != target && scores[row] > scores[target] * (1 + 1e-4) + 1e-15 ? 1 : 0;
    largest += scores[row] >= scores[target] * (1 - 1e-4) - 1e-15 ? 1 : 0;
  }
  return {least, largest};
}

constexpr BlendOptions kSlow = {120, 180, 60, 3};
constexpr BlendOptions kFast = {10, 20, 30, 3};  // the origin of weights moves on, many times

TEST(Blend, RanksAreThoseOfTheTwin) {
  const ServingModel serving = SmallModel(1);
  for (uint64_t round = 0; round < 4; ++round) {
    const EventLog log = LogOf(RandomClicks(250, TestSeed() + round));
    const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
    EvaluationOptions options;
    options.exclude_seen = round % 2 == 0;
    options.blend = round < 2 ? kSlow : kFast;
    const Evaluation evaluation = RunOn(plan, serving, options);
    const Outcome& blend = OutcomeOf(evaluation, "blend");
    size_t exact = 0;
    for (size_t i = 0; i < plan.cases.size(); ++i) {
      const auto [least, largest] = PlainRank(plan, plan.cases[i], options.blend, options.exclude_seen);
      EXPECT_LE(least, blend.ranks[i]) << "round " << round << " case " << i;
      EXPECT_GE(largest, blend.ranks[i]) << "round " << round << " case " << i;
      exact += least == largest ? 1 : 0;
    }
    EXPECT_GT(exact, plan.cases.size() / 2) << "round " << round;
  }
}

TEST(Blend, AnEventDoesNotHelpToPredictItself) {
  const EventLog log = LogOf(RandomClicks(250, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  EvaluationOptions options;
  options.exclude_seen = false;
  options.blend = kSlow;
  const Evaluation evaluation = RunOn(plan, SmallModel(1), options);
  const Outcome& blend = OutcomeOf(evaluation, "blend");
  size_t off = 0;
  for (size_t i = 0; i < plan.cases.size(); ++i) {
    const auto [least, largest] = PlainRank(plan, plan.cases[i], options.blend, false, true);
    off += blend.ranks[i] < least || blend.ranks[i] > largest ? 1 : 0;
  }
  EXPECT_GT(off, 100U);
}

TEST(Blend, WhatComesLaterChangesNothingBefore) {
  std::vector<Click> clicks = RandomClicks(250, TestSeed());
  const EventLog log = LogOf(clicks);
  for (size_t i = 150; i < clicks.size(); ++i) clicks[i] = {clicks[i].user, 3, clicks[150].time_ms};
  const EventLog other = LogOf(clicks);
  std::vector<std::vector<uint32_t>> ranks;
  for (const EventLog* const one : {&log, &other}) {
    const EvaluationPlan plan = PlanPrequential(*one, std::nullopt).value();
    ranks.push_back(OutcomeOf(RunOn(plan, SmallModel(1)), "blend").ranks);
  }
  EXPECT_NE(ranks[0], ranks[1]);
  for (std::vector<uint32_t>& some : ranks) some.resize(150);
  EXPECT_EQ(ranks[0], ranks[1]);
}

// a: i1 i2, b: i1 i3, all now; then a user whose newest item is i1, and one who has none.
TEST(Blend, ByHand) {
  const BaselineOptions options{.items = 5, .items_appear = true, .exclude_seen = true};
  const auto token = [](uint32_t row) { return ModelToken{ItemRow{row}, TypeRow{1}, 0}; };
  const std::vector<ModelToken> a = {token(1), token(2)}, b = {token(1), token(3)};
  RowMap rows;
  for (uint32_t row = 0; row < options.items; ++row) rows.items.push_back(ItemRow{row});
  Blend blend(options, {60, 60, 60, 1});
  for (const std::vector<ModelToken>* const user : {&a, &b}) {
    for (size_t i = 0; i < 2; ++i) {
      blend.Consume(History(std::span(*user).first(i), rows), Raw((*user)[i].item), user == &a ? 0 : kHourMs);
    }
  }
  Ranking ranking;
  blend.Rank(History({}, rows), 2, kHourMs, ranking);  // 1.5, .5, 1 of 3
  EXPECT_EQ(ranking.top, (std::vector<uint32_t>{1, 3, 2}));
  EXPECT_EQ(ranking.rank, 3U);
  blend.Rank(History(std::span(a).first(1), rows), 3, kHourMs, ranking);
  EXPECT_EQ(ranking.top, (std::vector<uint32_t>{3, 2}));
  EXPECT_EQ(ranking.rank, 1U);
  blend.Rank(History(std::span(a).first(1), rows), 4, kHourMs, ranking);  // not known yet
  EXPECT_EQ(ranking.rank, 0U);
}

TEST(Fading, WeightsStayInRangeAndKeepTheirRatio) {
  Fading fading(1);
  double kept = 0, at_ms = 0;
  for (int64_t time_ms = 0; time_ms < 100 * kHourMs; time_ms += 7'000'000) {
    kept *= fading.Advance(time_ms);
    kept += fading.WeightAt(time_ms);
    at_ms = static_cast<double>(time_ms);
    EXPECT_NEAR(kept * fading.FadedAt(time_ms), 1, 1e-6) << at_ms;
  }
  EXPECT_NEAR(kept * fading.FadedAt(static_cast<int64_t>(at_ms) + 60'000), .5, 1e-6);
}

}  // namespace
}  // namespace freshet
