// The model's rankings, and whole evaluations.
#include "pipeline/evaluation/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "pipeline/evaluation/accuracy.h"
#include "pipeline/evaluation/report.h"
#include "tests/pipeline/evaluation/evaluation_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// Of the whole catalogue, by the full model over the first `events` of a user.
std::vector<double> PlainScores(const Model& model, std::span<const ModelToken> tokens) {
  const auto dim = static_cast<size_t>(model.config.dim);
  const std::vector<float> outputs = FullForward(model, tokens);
  std::vector<double> scores;
  for (size_t row = 0; row < static_cast<size_t>(model.config.items); ++row) {
    double dot = 0, squares = 0;
    for (size_t c = 0; c < dim; ++c) {
      const double weight = model.item_embedding[row * dim + c];
      dot += weight * outputs[outputs.size() - dim + c];
      squares += weight * weight;
    }
    scores.push_back(dot / std::sqrt(squares) / model.config.temperature);
  }
  return scores;
}

// The least and the largest rank that rounding allows; {0, 0} is a miss.
std::pair<uint32_t, uint32_t> PlainRank(const Model& model, const EvaluationPlan& plan, const Case& asked,
                                        bool exclude_seen, bool leak) {
  const RowMap rows = MapRows(plan.log->vocabulary, model.vocabulary);
  std::vector<ModelToken> tokens;
  for (const ModelToken& token : plan.log->users[asked.user].tokens) tokens.push_back(rows(token));
  const uint32_t target = Raw(tokens[asked.history].item);
  const std::span<const ModelToken> history = std::span(tokens).first(asked.history + (leak ? 1 : 0));
  const std::vector<double> scores = PlainScores(model, history);
  std::vector<bool> out(scores.size());
  out[0] = true;
  for (size_t i = 0; exclude_seen && i < asked.history; ++i) out[Raw(tokens[i].item)] = true;
  if (out[target]) return {0, 0};
  uint32_t least = 1, largest = 0;
  for (uint32_t row = 1; row < scores.size(); ++row) {
    if (out[row]) continue;
    least += row != target && scores[row] > scores[target] + 1e-4 ? 1 : 0;
    largest += scores[row] > scores[target] - 1e-4 ? 1 : 0;
  }
  return {least, largest};
}

size_t RanksOff(const Outcome& outcome, const Model& model, const EvaluationPlan& plan, bool exclude_seen,
                bool leak = false) {
  size_t off = 0;
  for (size_t i = 0; i < plan.cases.size(); ++i) {
    if (plan.cases[i].history == 0) continue;
    const auto [least, largest] = PlainRank(model, plan, plan.cases[i], exclude_seen, leak);
    off += outcome.ranks[i] < least || outcome.ranks[i] > largest ? 1 : 0;
  }
  return off;
}

TEST(ModelRanks, AreThoseOfTheFullModelOverTheHistory) {
  const ServingModel serving = SmallModel(TestSeed());
  const EventLog log = LogOf(RandomClicks(400, TestSeed()));
  for (const bool exclude_seen : {true, false}) {
    for (const size_t cache_bytes : {size_t{1} << 30, size_t{0}}) {  // without room, every vector is a rebuild
      EvaluationOptions options;
      options.exclude_seen = exclude_seen;
      options.cache_bytes = cache_bytes;
      for (const auto& plan : {PlanPrequential(log, std::nullopt).value(), PlanLeaveOneOut(log).value()}) {
        const Evaluation evaluation = RunOn(plan, serving, options);
        EXPECT_EQ(RanksOff(evaluation.outcomes[0], *serving.model, plan, exclude_seen), 0U);
        EXPECT_EQ(evaluation.outcomes[0].candidates, 49);
      }
    }
  }
}

TEST(ModelRanks, APlantedLeakIsFound) {
  const ServingModel serving = SmallModel(TestSeed());
  const EventLog log = LogOf(RandomClicks(400, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  EvaluationOptions options;
  options.exclude_seen = false;
  EXPECT_GT(RanksOff(RunOn(plan, serving, options).outcomes[0], *serving.model, plan, false, true), 100U);
}

TEST(ModelRanks, EachModelAnswersFromItsTimeOn) {
  const ServingModel first = SmallModel(1), second = SmallModel(2), third = SmallModel(3);
  std::vector<Click> clicks = RandomClicks(400, TestSeed());
  std::sort(clicks.begin(), clicks.end(), [](const auto& a, const auto& b) { return a.time_ms < b.time_ms; });
  const EventLog log = LogOf(clicks);
  const EvaluationPlan plan = PlanPrequential(log, clicks[50].time_ms).value();
  EvaluationOptions options;
  options.later = {{clicks[150].time_ms, &second}, {clicks[270].time_ms, &third}};
  const std::vector<uint32_t> ranks = RunOn(plan, first, options).outcomes[0].ranks;
  std::vector<std::vector<uint32_t>> alone;
  for (const ServingModel* const model : {&first, &second, &third}) {
    alone.push_back(RunOn(plan, *model).outcomes[0].ranks);
  }
  EXPECT_NE(alone[0], alone[1]);
  for (size_t i = 0; i < ranks.size(); ++i) {
    const int64_t now_ms = plan.cases[i].now_ms;
    const size_t stage = (now_ms >= clicks[150].time_ms ? 1 : 0) + (now_ms >= clicks[270].time_ms ? 1 : 0);
    EXPECT_EQ(ranks[i], alone[stage][i]) << i;
  }
}

TEST(ModelRanks, AUsersFirstEventIsRankedByRecentPopularity) {
  const EventLog log = LogOf(RandomClicks(200, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const Evaluation evaluation = RunOn(plan, SmallModel(1));
  size_t first = 0;
  for (size_t i = 0; i < plan.cases.size(); ++i) {
    if (plan.cases[i].history > 0) continue;
    ++first;
    EXPECT_EQ(evaluation.outcomes[0].ranks[i], OutcomeOf(evaluation, "popularity_recent").ranks[i]);
  }
  EXPECT_EQ(first, log.users.size());
}

TEST(Evaluate, PrequentialFromAUsersLastEventIsLeaveOneOut) {
  std::vector<Click> clicks = RandomClicks(300, TestSeed());
  std::sort(clicks.begin(), clicks.end(), [](const auto& a, const auto& b) { return a.time_ms < b.time_ms; });
  clicks.push_back({clicks.back().user == 3 ? 4U : 3U, 17, clicks.back().time_ms + 1});
  const EventLog log = LogOf(clicks);
  const ServingModel serving = SmallModel(TestSeed());
  const EvaluationPlan last = PlanPrequential(log, clicks.back().time_ms).value();
  const EvaluationPlan each = PlanLeaveOneOut(log).value();
  ASSERT_EQ(last.cases.size(), 1U);
  const auto same = std::find_if(each.cases.begin(), each.cases.end(),
                                 [&](const Case& asked) { return asked.user == last.cases[0].user; });
  const auto place = static_cast<size_t>(same - each.cases.begin());
  EXPECT_EQ(RunOn(last, serving).outcomes[0].ranks[0], RunOn(each, serving).outcomes[0].ranks[place]);
}

TEST(Evaluate, TheNumberOfThreadsChangesNothing) {
  const EventLog log = LogOf(RandomClicks(300, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const ServingModel serving = SmallModel(1);
  ReportFacts facts{"prequential", std::nullopt, &plan, {&serving}, {}};
  const std::string one = ReportJson(facts, RunOn(plan, serving));
  EvaluationOptions options;
  options.threads = 5;
  EXPECT_EQ(ReportJson(facts, RunOn(plan, serving, options)), one);
}

TEST(Evaluate, ALogWithOneItem) {
  const EventLog log = LogOf({{1, 7, kStartMs}, {2, 7, kStartMs}, {1, 7, kStartMs}});
  const ServingModel serving = SmallModel(1);
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const Evaluation evaluation = RunOn(plan, serving);
  EXPECT_EQ(OutcomeOf(evaluation, "popularity").ranks, (std::vector<uint32_t>{0, 1, 0}));
  EXPECT_EQ(OutcomeOf(evaluation, "item_knn").ranks, (std::vector<uint32_t>{0, 1, 0}));
  EXPECT_EQ(evaluation.outcomes[0].ranks, (std::vector<uint32_t>{0, 1, 0}));
  EXPECT_EQ(RunOn(PlanLeaveOneOut(log).value(), serving).outcomes[0].ranks, std::vector<uint32_t>{0});
}

TEST(Evaluate, AnItemThatTheModelDoesNotKnowIsAMiss) {
  const EventLog log = LogOf({{1, 7, kStartMs}, {2, 77, kStartMs}, {1, 77, kStartMs}});
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const Evaluation evaluation = RunOn(plan, SmallModel(1));
  EXPECT_EQ(evaluation.outcomes[0].ranks[2], 0U);
  EXPECT_EQ(OutcomeOf(evaluation, "popularity").ranks[2], 1U);
}

// A part of the cases that nobody is in has no mean.
TEST(Report, EmptySlicesHaveNoFigures) {
  const EventLog log = LogOf({{1, 7, kStartMs}, {1, 8, kStartMs + 1}, {2, 7, kStartMs + 2}, {2, 8, kStartMs + 3}});
  const ServingModel serving = SmallModel(1);
  const EvaluationPlan plan = PlanLeaveOneOut(log).value();
  const ReportFacts facts{"leave-one-out", std::nullopt, &plan, {&serving}, {}};
  const Evaluation evaluation = RunOn(plan, serving);
  const auto json = nlohmann::json::parse(ReportJson(facts, evaluation));
  EXPECT_EQ(json["model"]["slices"]["known_users"].dump(), R"({"hr@10":null,"mrr":null,"n":0,"ndcg@10":null})");
  EXPECT_TRUE(json["model"]["slices"]["new_users"]["hr@10"].is_number());
  EXPECT_THAT(ReportTable(facts, evaluation), testing::ContainsRegex("known_users +0( +-)+\n"));
}

TEST(Evaluate, TellsOfEachPredictor) {
  const EventLog log = LogOf(RandomClicks(300, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const ServingModel serving = SmallModel(1);
  const ServingModel* const models[] = {&serving};
  std::vector<std::string> parts;
  const Evaluation evaluation = Evaluate(plan, models, {}, [&](const Part& part) {
    if (parts.empty() || parts.back() != part.what) parts.push_back(part.what);
    if (std::string_view(part.unit) == "predictions") {
      EXPECT_EQ(part.total, 300);
    }
    EXPECT_LE(part.done, part.total);
  });
  EXPECT_EQ(parts.front(), serving.model->name);
  EXPECT_EQ(parts.back(), "intervals");
  EXPECT_EQ(evaluation.outcomes[evaluation.blend.value()].name, "blend");
  EXPECT_FALSE(RunOn(PlanLeaveOneOut(log).value(), serving).blend);
}

TEST(Report, ComparesTwoModels) {
  const EventLog log = LogOf(RandomClicks(400, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  const ServingModel first = SmallModel(1), second = SmallModel(2);
  for (const ServingModel* const other : {&first, &second}) {
    ReportFacts facts{"prequential", std::nullopt, &plan, {&first, other}, {}};
    const Evaluation evaluation = Evaluate(plan, facts.models, facts.options, [](const Part&) {});
    const auto json = nlohmann::json::parse(ReportJson(facts, evaluation));
    const auto& difference = json["compare"]["differences"]["ndcg@10"];
    EXPECT_NEAR(difference["difference"].get<double>(),
                json["compare"]["model"]["ndcg@10"].get<double>() - json["model"]["ndcg@10"].get<double>(), 1e-12);
    if (other == &second) continue;
    EXPECT_EQ(difference.dump(),
              R"({"difference":0.0,"interval":[0.0,0.0],"p":1.0,"relative":0.0,"relative_interval":[0.0,0.0]})");
    const std::string name = first.model->name + " (" + first.model->version.substr(0, 8) + ")";
    const std::string same = "+0.0000 [+0.0000, +0.0000], +0.0 % [+0.0 %, +0.0 %], p = 1.0000";
    const std::string verdict = "no significant difference in NDCG@10 of " + name + " from " + name + ": " + same;
    EXPECT_EQ(json["compare"]["verdict"], verdict);
    const std::string expected =
        "\n" + name + " less " + name + ":\nHR@10     " + same + "\nNDCG@10   " + same + "\nMRR       " + same + "\n";
    EXPECT_THAT(ReportTable(facts, evaluation), testing::EndsWith(expected + verdict + "\n"));
  }
}

}  // namespace
}  // namespace freshet
