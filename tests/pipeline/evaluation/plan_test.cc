#include "pipeline/evaluation/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipeline/evaluation/evaluation_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kDayMs = 24 * kHourMs;

TEST(Plan, LeaveOneOutKnowsAllButTheTargets) {
  const EventLog log = LogOf({{1, 1, 5}, {2, 2, 7}, {1, 3, 9}, {3, 4, 1}, {3, 1, 2}, {3, 1, 3}});
  const EvaluationPlan plan = PlanLeaveOneOut(log).value();
  ASSERT_EQ(plan.events.size(), 3U);  // u1's first, u3's first two; u2 has one event only
  EXPECT_EQ(plan.events[0].time_ms, 5);
  EXPECT_EQ(plan.events[1].time_ms, 1);
  ASSERT_EQ(plan.cases.size(), 2U);
  for (const Case& asked : plan.cases) {
    EXPECT_EQ(asked.known, 3U);
    EXPECT_EQ(asked.now_ms, 5);  // no target's own time
    EXPECT_FALSE(asked.new_item);
  }
  EXPECT_FALSE(plan.cases[0].seen);
  EXPECT_TRUE(plan.cases[1].seen);
  EXPECT_EQ(plan.out_of_order, 3);
}

TEST(Plan, PrequentialKnowsWhatStandsBefore) {
  const EventLog log = LogOf({{1, 1, 5}, {2, 2, 7}, {1, 3, 9}, {2, 2, 6}, {1, 1, 9}});
  const EvaluationPlan plan = PlanPrequential(log, 7).value();
  ASSERT_EQ(plan.events.size(), 5U);
  ASSERT_EQ(plan.cases.size(), 3U);
  EXPECT_EQ(plan.cases[0].known, 1U);
  EXPECT_EQ(plan.cases[0].history, 0U);
  EXPECT_EQ(plan.cases[2].known, 4U);
  EXPECT_EQ(plan.cases[2].history, 2U);
  EXPECT_EQ(plan.cases[2].now_ms, 9);
  EXPECT_TRUE(plan.cases[2].seen);
  EXPECT_EQ(plan.out_of_order, 1);
}

TEST(Plan, Refusals) {
  const EventLog none = LogOf({});
  EXPECT_THAT(PlanLeaveOneOut(none).error().message(), HasSubstr("no user has two events"));
  EXPECT_EQ(PlanPrequential(none, 5).error().message(), "--input: no events to predict");
  const EventLog log = LogOf({{1, 1, kStartMs}, {2, 1, kStartMs - 77}});
  EXPECT_THAT(PlanLeaveOneOut(log).error().message(), HasSubstr("no user has two events"));
  EXPECT_EQ(PlanPrequential(log, kStartMs + 1).error().message(),
            "--from 2020-09-13T12:26:40.001Z: after the newest event of --input, 2020-09-13T12:26:40Z");
  EXPECT_EQ(PlanPrequential(log, kStartMs).value().cases.size(), 1U);
}

TEST(Plan, NewItemsAndUsers) {
  std::vector<Click> clicks = {{1, 1, kStartMs}, {2, 1, kStartMs + kDayMs - 1}, {2, 1, kStartMs + kDayMs}};
  for (int i = 0; i < 4; ++i) clicks.push_back({2, 1, kStartMs + 2 * kDayMs});
  const EventLog log = LogOf(clicks);
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  EXPECT_TRUE(plan.cases[0].new_item);
  EXPECT_TRUE(plan.cases[1].new_item);
  EXPECT_FALSE(plan.cases[2].new_item);
  EXPECT_TRUE(plan.cases[5].new_user);   // u2's fifth
  EXPECT_FALSE(plan.cases[6].new_user);  // and sixth
}

// As the definition has it, for all counts anew.
TEST(Plan, HeadItemsHaveLessThanAFifthOfTheEventsAboveThem) {
  const EventLog log = LogOf(RandomClicks(600, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  size_t head = 0;
  for (const Case& asked : plan.cases) {
    std::vector<size_t> counts(log.vocabulary.item_ids().size());
    for (size_t i = 0; i < asked.known; ++i) {
      ++counts[Raw(log.users[plan.events[i].user].tokens[plan.events[i].history].item)];
    }
    const size_t count = counts[Raw(log.users[asked.user].tokens[asked.history].item)];
    size_t above = 0;
    for (const size_t other : counts) above += other > count ? other : 0;
    ASSERT_EQ(asked.head, count > 0 && static_cast<double>(above) < .2 * static_cast<double>(asked.known));
    head += asked.head ? 1 : 0;
  }
  EXPECT_GT(head, 20U);
  EXPECT_LT(head, 500U);
}

TEST(Plan, WhatAModelKnowsOfALog) {
  const EventLog log = LogOf({{1, 7, kStartMs}, {2, 77, kStartMs}, {1, 77, kStartMs}, {2, 49, kStartMs}});
  const ServingModel serving = SmallModel(1);
  const KnownShare known = KnownOf(log, serving.model->vocabulary);
  EXPECT_EQ(known.items, 3);
  EXPECT_EQ(known.known_items, 2);
  EXPECT_EQ(known.events, 4);
  EXPECT_EQ(known.known_events, 2);
}

}  // namespace
}  // namespace freshet
