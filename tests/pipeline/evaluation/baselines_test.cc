// The baselines against twins that count everything anew for each case, over all items.
#include "pipeline/evaluation/baselines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>

#include "tests/pipeline/evaluation/evaluation_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using ::testing::ElementsAre;

// All that a twin may look at: the events known before a case, and the case's user's own.
struct Knowledge {
  std::vector<std::vector<uint32_t>> sequences;  // by user, rows in order
  std::vector<std::pair<int64_t, uint32_t>> events;
  std::vector<uint32_t> history;
  int64_t now_ms = 0;
  uint32_t end = 1;  // of the candidates
};

using Scores = std::function<std::vector<float>(const Knowledge&, size_t items)>;

std::vector<float> PopularityScores(const Knowledge& known, size_t items) {
  std::vector<float> scores(items);
  for (const auto& [time_ms, row] : known.events) scores[row] += 1;
  return scores;
}

// Quadratic, as the definition has it: an event counts until one came that is `hours` later.
Scores RecentScores(int64_t hours) {
  return [hours](const Knowledge& known, size_t items) {
    std::vector<float> scores(items);
    for (size_t i = 0; i < known.events.size(); ++i) {
      const int64_t gone_ms = known.events[i].first + hours * kHourMs;
      bool gone = known.now_ms >= gone_ms;
      for (size_t j = i + 1; j < known.events.size(); ++j) gone |= known.events[j].first >= gone_ms;
      scores[known.events[i].second] += gone ? 0 : 1;
    }
    return scores;
  };
}

Scores CoVisitationScores(size_t last) {
  return [last](const Knowledge& known, size_t items) {
    std::vector<float> scores(items);
    for (size_t back = 0; back < std::min(last, known.history.size()); ++back) {
      std::vector<float> followers(items);
      const uint32_t from = known.history[known.history.size() - 1 - back];
      for (const auto& sequence : known.sequences) {
        for (size_t i = 0; i < sequence.size(); ++i) {
          for (size_t j = i + 1; sequence[i] == from && j < std::min(i + 11, sequence.size()); ++j) {
            followers[sequence[j]] += 2520 / static_cast<float>(j - i);
          }
        }
      }
      for (size_t row = 0; row < items; ++row) scores[row] += 1 / static_cast<float>(1 + back) * followers[row];
    }
    return scores;
  };
}

std::vector<uint32_t> NewestDistinct(const std::vector<uint32_t>& sequence, size_t end) {
  std::vector<uint32_t> distinct;
  for (size_t back = 1; back <= std::min<size_t>(10, end); ++back) {
    if (std::find(distinct.begin(), distinct.end(), sequence[end - back]) == distinct.end())
      distinct.push_back(sequence[end - back]);
  }
  return distinct;
}

std::vector<float> KnnScores(const Knowledge& known, size_t items) {
  std::vector<float> counts(items), scores(items);
  std::map<std::pair<uint32_t, uint32_t>, float> together;
  for (const auto& sequence : known.sequences) {
    for (size_t i = 0; i < sequence.size(); ++i) {
      counts[sequence[i]] += 1;
      for (const uint32_t other : NewestDistinct(sequence, i)) {
        if (other == sequence[i]) continue;
        together[{other, sequence[i]}] += 1;
        together[{sequence[i], other}] += 1;
      }
    }
  }
  for (const uint32_t item : NewestDistinct(known.history, known.history.size())) {
    for (uint32_t row = 1; row < items; ++row) {
      const auto found = together.find({item, row});
      if (found != together.end()) scores[row] += found->second * (1 / std::sqrt(counts[item]));
    }
  }
  for (uint32_t row = 1; row < items; ++row) scores[row] *= counts[row] == 0 ? 0 : 1 / std::sqrt(counts[row]);
  return scores;
}

// Ranks and lists of a twin. `leak`: the event to predict is taken in before it is predicted.
struct Twin {
  std::vector<uint32_t> ranks;
  std::vector<std::vector<uint32_t>> tops;
};

Knowledge KnowledgeBefore(const EvaluationPlan& plan, const Case& asked, bool leak) {
  Knowledge known;
  known.sequences.resize(plan.log->users.size());
  for (size_t i = 0; i < asked.known + (leak ? 1 : 0); ++i) {
    const KnownEvent& event = plan.events[i];
    const uint32_t row = Raw(plan.log->users[event.user].tokens[event.history].item);
    known.sequences[event.user].push_back(row);
    known.events.emplace_back(event.time_ms, row);
    known.end = std::max(known.end, row + 1);
  }
  known.history = known.sequences[asked.user];
  known.now_ms = asked.now_ms;
  return known;
}

Twin RankPlainly(const EvaluationPlan& plan, const Scores& scores_of, bool exclude_seen, bool leak = false) {
  Twin twin;
  const size_t items = plan.log->vocabulary.item_ids().size();
  for (const Case& asked : plan.cases) {
    const Knowledge known = KnowledgeBefore(plan, asked, leak);
    const std::vector<float> scores = scores_of(known, items);
    std::vector<uint32_t> candidates(known.end - 1);
    std::iota(candidates.begin(), candidates.end(), 1);
    if (exclude_seen) {
      const auto is_seen = [&](uint32_t row) {
        return std::find(known.history.begin(), known.history.end(), row) != known.history.end();
      };
      candidates.erase(std::remove_if(candidates.begin(), candidates.end(), is_seen), candidates.end());
    }
    const uint32_t target = Raw(plan.log->users[asked.user].tokens[asked.history].item);
    const bool ranked = std::find(candidates.begin(), candidates.end(), target) != candidates.end();
    const auto at_least = std::count_if(candidates.begin(), candidates.end(),
                                        [&](uint32_t row) { return scores[row] >= scores[target]; });
    twin.ranks.push_back(ranked ? static_cast<uint32_t>(at_least) : 0);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
    candidates.resize(std::min(candidates.size(), kCutoffs.back()));
    twin.tops.push_back(std::move(candidates));
  }
  return twin;
}

// Coverage and novelty by the book.
void ExpectLists(const Outcome& outcome, const Twin& twin, const EvaluationPlan& plan, const std::string& where) {
  for (size_t i = 0; i < kCutoffs.size(); ++i) {
    std::vector<uint32_t> all;
    double bits = 0;
    for (size_t c = 0; c < plan.cases.size(); ++c) {
      const Knowledge known = KnowledgeBefore(plan, plan.cases[c], false);
      const std::vector<float> counts = PopularityScores(known, plan.log->vocabulary.item_ids().size());
      const double total = static_cast<double>(known.events.size() + known.end - 1);
      for (size_t place = 0; place < std::min(kCutoffs[i], twin.tops[c].size()); ++place) {
        bits -= std::log2((counts[twin.tops[c][place]] + 1) / total);
        all.push_back(twin.tops[c][place]);
      }
    }
    EXPECT_NEAR(outcome.novelty[i], bits / static_cast<double>(std::max<size_t>(all.size(), 1)), 1e-9) << where;
    std::sort(all.begin(), all.end());
    const auto distinct = std::unique(all.begin(), all.end()) - all.begin();
    EXPECT_DOUBLE_EQ(outcome.coverage[i], static_cast<double>(distinct) / static_cast<double>(outcome.candidates))
        << where;
  }
}

const std::map<std::string, Scores> kTwins = {{"popularity", PopularityScores},
                                              {"popularity_recent", RecentScores(2)},
                                              {"covisitation_last", CoVisitationScores(1)},
                                              {"covisitation_20", CoVisitationScores(20)},
                                              {"item_knn", KnnScores}};

TEST(Baselines, PrequentialRanksAreThoseOfTheTwins) {
  const ServingModel serving = SmallModel(1);
  for (uint64_t round = 0; round < 4; ++round) {
    const EventLog log = LogOf(RandomClicks(250, TestSeed() + round));
    const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
    for (const bool exclude_seen : {true, false}) {
      EvaluationOptions options;
      options.exclude_seen = exclude_seen;
      options.popularity_hours = 2;
      options.threads = 2;
      const Evaluation evaluation = RunOn(plan, serving, options);
      ASSERT_EQ(evaluation.outcomes.size(), evaluation.baselines + kTwins.size());
      for (const auto& [name, scores] : kTwins) {
        const Twin twin = RankPlainly(plan, scores, exclude_seen);
        EXPECT_EQ(OutcomeOf(evaluation, name).ranks, twin.ranks) << name << " round " << round;
        if (round == 0) ExpectLists(OutcomeOf(evaluation, name), twin, plan, name);
      }
    }
  }
}

TEST(Baselines, AnEventDoesNotHelpToPredictItself) {
  const EventLog log = LogOf(RandomClicks(250, TestSeed()));
  const EvaluationPlan plan = PlanPrequential(log, std::nullopt).value();
  EvaluationOptions options;
  options.exclude_seen = false;
  options.popularity_hours = 2;
  const Evaluation evaluation = RunOn(plan, SmallModel(1), options);
  for (const auto& [name, scores] : kTwins) {
    EXPECT_NE(OutcomeOf(evaluation, name).ranks, RankPlainly(plan, scores, false, true).ranks) << name;
  }
}

TEST(Baselines, LeaveOneOutRanksTheItemsOfTheModel) {
  const ServingModel serving = SmallModel(1);
  const std::vector<Click> clicks = RandomClicks(300, TestSeed());
  // Every item of the model occurs, in the order of its rows, in the history of one user; no other does.
  std::vector<Click> all;
  for (uint32_t item = 1; item < 50; ++item) all.push_back({99, item, kStartMs});
  all.push_back({99, 1, kStartMs});
  for (const Click& click : clicks) all.push_back({click.user, 1 + click.item % 49, click.time_ms});
  const EventLog log = LogOf(all);
  const EvaluationPlan plan = PlanLeaveOneOut(log).value();
  EvaluationOptions options;
  options.popularity_hours = 2;
  const Evaluation evaluation = RunOn(plan, serving, options);
  for (const auto& [name, scores] : kTwins) {
    const Twin twin = RankPlainly(plan, scores, true);
    EXPECT_EQ(OutcomeOf(evaluation, name).ranks, twin.ranks) << name;
    EXPECT_EQ(OutcomeOf(evaluation, name).candidates, 49) << name;
    ExpectLists(OutcomeOf(evaluation, name), twin, plan, name);
  }
}

// a: i1 i2 i3, b: i1 i3, then b's third event.
TEST(Baselines, ByHand) {
  const BaselineOptions options{.items = 5, .items_appear = true, .exclude_seen = true};
  const std::vector<ModelToken> a = {
      {ItemRow{1}, TypeRow{1}, 0}, {ItemRow{2}, TypeRow{1}, 0}, {ItemRow{3}, TypeRow{1}, 0}};
  const std::vector<ModelToken> b = {
      {ItemRow{1}, TypeRow{1}, 0}, {ItemRow{3}, TypeRow{1}, 0}, {ItemRow{2}, TypeRow{1}, 0}};
  RowMap rows;
  for (uint32_t row = 0; row < options.items; ++row) rows.items.push_back(ItemRow{row});
  const auto before = [&](const std::vector<ModelToken>& user, size_t events) {
    return History(std::span(user).first(events), rows);
  };
  const auto feed = [&](auto& predictor) {
    for (size_t i = 0; i < 3; ++i) predictor.Consume(before(a, i), Raw(a[i].item), static_cast<int64_t>(i) * kHourMs);
    for (size_t i = 0; i < 2; ++i) predictor.Consume(before(b, i), Raw(b[i].item), 3 * kHourMs);
  };
  Ranking ranking;
  Popularity popularity(options, Popularity::kForEver);
  feed(popularity);
  popularity.Rank(before(b, 0), 2, 0, ranking);  // counts 2, 1, 2
  EXPECT_EQ(ranking.rank, 3U);
  EXPECT_THAT(ranking.top, ElementsAre(1, 3, 2));
  popularity.Rank(before(b, 2), 2, 0, ranking);
  EXPECT_EQ(ranking.rank, 1U);
  EXPECT_THAT(ranking.top, ElementsAre(2));
  popularity.Rank(before(b, 2), 1, 0, ranking);  // seen
  EXPECT_EQ(ranking.rank, 0U);
  popularity.Rank(before(b, 2), 4, 0, ranking);  // not known yet
  EXPECT_EQ(ranking.rank, 0U);

  Popularity recent(options, 2 * kHourMs);  // at 3 h: a's last event and b's two; a's second is just gone
  feed(recent);
  recent.Rank(before(b, 0), 2, 3 * kHourMs, ranking);
  EXPECT_EQ(ranking.rank, 3U);
  EXPECT_THAT(ranking.top, ElementsAre(3, 1, 2));
  recent.Rank(before(b, 0), 3, 5 * kHourMs, ranking);  // all gone: all tie
  EXPECT_EQ(ranking.rank, 3U);

  CoVisitation covisitation(options, 1);
  feed(covisitation);
  covisitation.Rank(before(a, 1), 2, 0, ranking);  // after i1: i3 1/2 + 1, i2 1
  EXPECT_EQ(ranking.rank, 2U);
  EXPECT_THAT(ranking.top, ElementsAre(3, 2));
  covisitation.Rank(before(a, 3), 1, 0, ranking);  // nothing came after i3, and everything was seen
  EXPECT_EQ(ranking.rank, 0U);
  EXPECT_TRUE(ranking.top.empty());

  ItemKnn knn(options);
  feed(knn);
  knn.Rank(before(a, 1), 2, 0, ranking);  // cosines with i1: i3 2 / 2, i2 1 / sqrt(2)
  EXPECT_EQ(ranking.rank, 2U);
  EXPECT_THAT(ranking.top, ElementsAre(3, 2));
}

TEST(Weights, SumsByRow) {
  Weights weights;
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t row = 0; row < 1000; ++row) weights.Add(row * 7, static_cast<float>(row));
  }
  std::map<uint32_t, float> found;
  for (const auto& [row, weight] : weights.entries()) EXPECT_TRUE(found.emplace(row, weight).second);
  EXPECT_EQ(found.size(), 999U);  // but row 0
  for (const auto& [row, weight] : found) EXPECT_EQ(weight, 3 * static_cast<float>(row / 7));
}

}  // namespace
}  // namespace freshet
