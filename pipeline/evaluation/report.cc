#include "pipeline/evaluation/report.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/thousands.h"
#include "ingest/timestamp.h"
#include "pipeline/evaluation/accuracy.h"

namespace freshet {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kVerdictMetric = 1;  // NDCG@10
constexpr std::array<const char*, kTestedMetrics.size()> kMetricNames = {"HR@10", "NDCG@10", "MRR"};
constexpr int64_t kHourMs = 3'600'000;

// Targets that a model can only miss.
struct Misses {
  int64_t unknown = 0;  // not in its vocabulary
  int64_t seen = 0;     // left out with the user's history
};

Misses MissesOf(const ReportFacts& facts, const ServingModel& serving, std::span<const LaterModel> later = {}) {
  const EventLog& log = *facts.plan->log;
  const std::vector<size_t> take_overs = TakeOvers(*facts.plan, later);
  RowMap rows = MapRows(log.vocabulary, serving.model->vocabulary);
  Misses misses;
  size_t stage = 0;
  for (size_t i = 0; i < facts.plan->cases.size(); ++i) {
    const Case& asked = facts.plan->cases[i];
    for (; stage < later.size() && take_overs[stage] <= i; ++stage) {
      rows = MapRows(log.vocabulary, later[stage].serving->model->vocabulary);
    }
    if (asked.history == 0) continue;  // the fallback's
    const ItemRow target = log.users[asked.user].tokens[asked.history].item;
    const bool unknown = rows.items[Raw(target)] == kUnknownItem;
    misses.unknown += unknown ? 1 : 0;
    misses.seen += !unknown && asked.seen && facts.options.exclude_seen ? 1 : 0;
  }
  return misses;
}

size_t UsersOf(const EvaluationPlan& plan) {
  std::unordered_set<uint32_t> users;
  for (const Case& asked : plan.cases) users.insert(asked.user);
  return users.size();
}

int64_t FirstEventsOf(const EvaluationPlan& plan) {
  return std::count_if(plan.cases.begin(), plan.cases.end(), [](const Case& asked) { return asked.history == 0; });
}

// "+0.0123 [+0.0100, +0.0146], +4.1 % [+3.3 %, +4.9 %], p = 0.0001".
std::string DifferenceText(const Difference& difference) {
  std::string text = fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", difference.difference, difference.interval.low,
                                 difference.interval.high);
  if (const auto& relative = difference.relative) {
    text += fmt::format(", {:+.1f} % [{:+.1f} %, {:+.1f} %]", 100 * relative->difference, 100 * relative->interval.low,
                        100 * relative->interval.high);
  }
  return text + fmt::format(", p = {:.4f}", difference.p);
}

// "shop (9f2c12ab)": two models may well have one name.
std::string NameOf(const ServingModel& serving) {
  return serving.model->name + " (" + serving.model->version.substr(0, 8) + ")";
}

std::string VerdictOf(const ReportFacts& facts, const Evaluation& evaluation) {
  const Difference& difference = evaluation.uncertainty.differences[kVerdictMetric];
  const std::string first = NameOf(*facts.models[0]), second = NameOf(*facts.models[1]);
  const std::string what =
      difference.significant()
          ? fmt::format("{} is {} than {} in NDCG@10", second, difference.difference > 0 ? "better" : "worse", first)
          : fmt::format("no significant difference in NDCG@10 of {} from {}", second, first);
  return what + ": " + DifferenceText(difference);
}

std::string ComparisonText(const ReportFacts& facts, const Evaluation& evaluation) {
  std::string text = fmt::format("\n{} less {}:\n", NameOf(*facts.models[1]), NameOf(*facts.models[0]));
  for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
    text += fmt::format("{:<9} {}\n", kMetricNames[metric], DifferenceText(evaluation.uncertainty.differences[metric]));
  }
  return text + VerdictOf(facts, evaluation) + "\n";
}

Json ProtocolJson(const ReportFacts& facts, const Evaluation& evaluation) {
  const EvaluationPlan& plan = *facts.plan;
  const Misses misses = MissesOf(facts, *facts.models[0], facts.options.later);
  Json json;
  json["name"] = facts.protocol;
  if (plan.items_appear) json["from"] = facts.from_ms ? Json(FormatTime(*facts.from_ms)) : Json(nullptr);
  json["cases"] = plan.cases.size();
  json["users"] = UsersOf(plan);
  json["candidates"] = evaluation.outcomes[0].candidates;
  json["exclude_seen"] = facts.options.exclude_seen;
  json["ties"] = "against the model";
  json["order"] = "log";
  json["out_of_order"] = plan.out_of_order;
  json["out_of_order_in_user"] = plan.log->disorder.events;
  const KnownShare known = KnownOf(*plan.log, facts.models[0]->model->vocabulary);
  json["log_items"] = known.items;
  json["known_items"] = known.known_items;
  json["unknown_targets"] = misses.unknown;
  json["seen_targets"] = misses.seen;
  json["baselines_rank"] = plan.items_appear ? "items of the log so far" : "items of the model";
  json["popularity_hours"] = facts.options.popularity_hours;
  if (plan.items_appear) {
    json["fallback"] = {{"cases", FirstEventsOf(plan)}, {"for", "a user's first event"}, {"by", "popularity_recent"}};
  }
  json["slices"] = {{"head_share", kHeadShare}, {"new_user_events", kNewUserEvents}};
  if (plan.items_appear) json["slices"]["new_item_hours"] = kNewItemMs / kHourMs;
  json["intervals"] = {{"level", .95},
                       {"by", "bootstrap over users"},
                       {"resamples", kResamples},
                       {"permutations", kPermutations},
                       {"seed", facts.options.seed}};
  return json;
}

Json AccuracyJson(const ReportFacts& facts, const Evaluation& evaluation, size_t index) {
  const Outcome& outcome = evaluation.outcomes[index];
  const std::span<const Case> cases(facts.plan->cases);
  const Accuracy accuracy = Measure(cases, outcome.ranks);
  Json json;
  for (size_t i = 0; i < kCutoffs.size(); ++i) {
    const std::string suffix = "@" + std::to_string(kCutoffs[i]);
    json["hr" + suffix] = accuracy.at[i].hr;
    json["ndcg" + suffix] = accuracy.at[i].ndcg;
    json["recall" + suffix] = accuracy.at[i].hr;
    json["precision" + suffix] = accuracy.at[i].precision;
    json["f1" + suffix] = accuracy.at[i].f1;
    json["coverage" + suffix] = outcome.coverage[i];
    json["novelty" + suffix] = outcome.novelty[i];
  }
  json["mrr"] = accuracy.mrr;
  for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
    const Interval& interval = evaluation.uncertainty.intervals[index][metric];
    json["intervals"][kTestedMetrics[metric]] = {interval.low, interval.high};
  }
  for (const Slice& slice : SlicesOf(facts.plan->items_appear)) {
    const Accuracy part = Measure(cases, outcome.ranks, slice.holds);
    const auto figure = [&](double value) { return part.cases == 0 ? Json() : Json(value); };
    json["slices"][slice.name] = {{"n", part.cases},
                                  {"hr@10", figure(part.At(10).hr)},
                                  {"ndcg@10", figure(part.At(10).ndcg)},
                                  {"mrr", figure(part.mrr)}};
  }
  return json;
}

Json ModelJson(const ReportFacts& facts, const Evaluation& evaluation, size_t index) {
  Json json = AccuracyJson(facts, evaluation, index);
  json["name"] = facts.models[index]->model->name;
  json["version"] = facts.models[index]->model->version;
  if (index > 0) return json;
  for (const LaterModel& later : facts.options.later) {
    json["later"].push_back({{"from", FormatTime(later.from_ms)},
                             {"name", later.serving->model->name},
                             {"version", later.serving->model->version}});
  }
  return json;
}

Json ComparisonJson(const ReportFacts& facts, const Evaluation& evaluation) {
  const Misses misses = MissesOf(facts, *facts.models[1]);
  Json json;
  json["model"] = ModelJson(facts, evaluation, 1);
  json["candidates"] = evaluation.outcomes[1].candidates;
  json["known_items"] = KnownOf(*facts.plan->log, facts.models[1]->model->vocabulary).known_items;
  json["unknown_targets"] = misses.unknown;
  json["seen_targets"] = misses.seen;
  for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
    const Difference& difference = evaluation.uncertainty.differences[metric];
    Json& of_metric = json["differences"][kTestedMetrics[metric]];
    of_metric["difference"] = difference.difference;
    of_metric["interval"] = {difference.interval.low, difference.interval.high};
    if (const auto& relative = difference.relative) {
      of_metric["relative"] = relative->difference;
      of_metric["relative_interval"] = {relative->interval.low, relative->interval.high};
    }
    of_metric["p"] = difference.p;
  }
  json["verdict"] = VerdictOf(facts, evaluation);
  return json;
}

// REQUIRES: evaluation.blend.
Json BlendJson(const ReportFacts& facts, const Evaluation& evaluation) {
  const BlendOptions& blend = facts.options.blend;
  Json json = AccuracyJson(facts, evaluation, *evaluation.blend);
  json["candidates"] = evaluation.outcomes[*evaluation.blend].candidates;
  json["popularity_minutes"] = blend.popularity_minutes;
  json["followers_minutes"] = blend.followers_minutes;
  json["gap_minutes"] = blend.gap_minutes;
  json["popularity_weight"] = blend.popularity_weight;
  for (size_t metric = 0; metric < kTestedMetrics.size(); ++metric) {
    const Ratio& ratio = evaluation.over_best[metric];
    json["over_best"][kTestedMetrics[metric]] = {
        {"baseline", evaluation.outcomes[evaluation.baselines + ratio.best].name},
        {"ratio", ratio.ratio},
        {"interval", {ratio.interval.low, ratio.interval.high}}};
  }
  return json;
}

std::string BlendText(const Evaluation& evaluation) {
  std::string text = "\nblend over the best baseline:";
  for (const size_t metric : {size_t{0}, kVerdictMetric}) {
    const Ratio& ratio = evaluation.over_best[metric];
    text += fmt::format("{} {} {:.3f} [{:.3f}, {:.3f}] of {}", metric == 0 ? "" : ",", kMetricNames[metric],
                        ratio.ratio, ratio.interval.low, ratio.interval.high,
                        evaluation.outcomes[evaluation.baselines + ratio.best].name);
  }
  return text + "\n";
}

// "model", "compared", or the name of another predictor.
std::string KeyOf(const Evaluation& evaluation, size_t index) {
  if (index < evaluation.models) return index == 0 ? "model" : "compared";
  return evaluation.outcomes[index].name;
}

Json CurveJson(const ReportFacts& facts, const Evaluation& evaluation, int64_t length_ms) {
  Json json = Json::array();
  for (const auto& [begin, point] : CurveOf(facts.plan->cases, evaluation.outcomes, length_ms)) {
    Json of_point = {{"begin", FormatTime(begin)}, {"n", point.cases}};
    for (size_t i = 0; i < evaluation.outcomes.size(); ++i) {
      of_point[KeyOf(evaluation, i)] = {{"hr@10", point.hr[i]}, {"ndcg@10", point.ndcg[i]}};
    }
    json.push_back(std::move(of_point));
  }
  return json;
}

std::string Heading(const ReportFacts& facts, const Evaluation& evaluation) {
  const EvaluationPlan& plan = *facts.plan;
  const bool prequential = plan.items_appear;
  const Misses misses = MissesOf(facts, *facts.models[0], facts.options.later);
  std::string text = fmt::format(
      "{}{}, {} events of {} users, ranked against all {} items{}, seen items {}, ties against the model\n",
      facts.protocol, facts.from_ms ? " from " + FormatTime(*facts.from_ms) : "",
      WithThousands(static_cast<int64_t>(plan.cases.size())), WithThousands(static_cast<int64_t>(UsersOf(plan))),
      evaluation.outcomes[0].candidates, prequential ? " (baselines: of the log so far)" : "",
      facts.options.exclude_seen ? "left out" : "kept");
  if (misses.unknown + misses.seen > 0) {
    text += fmt::format("misses by construction: {} targets unknown to the model, {} seen before\n", misses.unknown,
                        misses.seen);
  }
  if (const auto& later = facts.options.later; !later.empty()) {
    text += fmt::format("later models take over: {}, from {} to {}\n", later.size(), FormatTime(later.front().from_ms),
                        FormatTime(later.back().from_ms));
  }
  if (prequential && FirstEventsOf(plan) > 0) {
    text += fmt::format("{} events are their users' first: the model has no vector yet, popularity_recent stands in\n",
                        WithThousands(FirstEventsOf(plan)));
  }
  if (prequential && plan.out_of_order > 0) {
    text += fmt::format("{} events of the log are earlier than one before them: taken as the log has them\n",
                        WithThousands(plan.out_of_order));
  }
  return text;
}

std::string LabelOf(const Evaluation& evaluation, size_t index) {
  const std::string& name = evaluation.outcomes[index].name;
  return index == 1 && evaluation.models == 2 ? "compared: " + name : name;
}

std::string MainTable(const ReportFacts& facts, const Evaluation& evaluation) {
  std::string text =
      fmt::format("{:<20} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>17} {:>17}\n", "", "HR@10", "NDCG@10",
                  "F1@10", "MRR", "HR@1", "HR@100", "cover@10", "novel@10", "HR@10, 95 %", "NDCG@10, 95 %");
  for (size_t i = 0; i < evaluation.outcomes.size(); ++i) {
    const Outcome& outcome = evaluation.outcomes[i];
    const Accuracy accuracy = Measure(facts.plan->cases, outcome.ranks);
    const auto ten = static_cast<size_t>(std::find(kCutoffs.begin(), kCutoffs.end(), size_t{10}) - kCutoffs.begin());
    const auto range = [&](size_t metric) {
      const Interval& interval = evaluation.uncertainty.intervals[i][metric];
      return fmt::format("[{:.4f}, {:.4f}]", interval.low, interval.high);
    };
    text += fmt::format("{:<20} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:8.4f} {:8.2f} {:>17} {:>17}\n",
                        LabelOf(evaluation, i), accuracy.At(10).hr, accuracy.At(10).ndcg, accuracy.At(10).f1,
                        accuracy.mrr, accuracy.At(1).hr, accuracy.At(100).hr, outcome.coverage[ten],
                        outcome.novelty[ten], range(0), range(1));
  }
  return text;
}

std::string SliceTable(const ReportFacts& facts, const Evaluation& evaluation) {
  std::string text = fmt::format("\n{:<20} {:>9}", "HR@10 of", "n");
  for (size_t i = 0; i < evaluation.outcomes.size(); ++i) text += fmt::format(" {:>17}", KeyOf(evaluation, i));
  text += "\n";
  for (const Slice& slice : SlicesOf(facts.plan->items_appear)) {
    std::string line;
    int64_t cases = 0;
    for (const Outcome& outcome : evaluation.outcomes) {
      const Accuracy part = Measure(facts.plan->cases, outcome.ranks, slice.holds);
      cases = part.cases;
      line += cases == 0 ? fmt::format(" {:>17}", "-") : fmt::format(" {:17.4f}", part.At(10).hr);
    }
    text += fmt::format("{:<20} {:>9}{}\n", slice.name, cases, line);
  }
  return text;
}

}  // namespace

std::string ReportTable(const ReportFacts& facts, const Evaluation& evaluation) {
  std::string text = Heading(facts, evaluation) + MainTable(facts, evaluation) + SliceTable(facts, evaluation);
  if (evaluation.blend) text += BlendText(evaluation);
  if (evaluation.models == 2) text += ComparisonText(facts, evaluation);
  return text;
}

std::string ReportJson(const ReportFacts& facts, const Evaluation& evaluation) {
  Json json;
  json["protocol"] = ProtocolJson(facts, evaluation);
  json["model"] = ModelJson(facts, evaluation, 0);
  if (evaluation.blend) json["blend"] = BlendJson(facts, evaluation);
  json["baselines"] = Json::object();
  for (size_t i = evaluation.baselines; i < evaluation.outcomes.size(); ++i) {
    json["baselines"][evaluation.outcomes[i].name] = AccuracyJson(facts, evaluation, i);
    json["baselines"][evaluation.outcomes[i].name]["candidates"] = evaluation.outcomes[i].candidates;
  }
  if (evaluation.models == 2) json["compare"] = ComparisonJson(facts, evaluation);
  if (facts.plan->items_appear) {
    json["curves"] = {{"day", CurveJson(facts, evaluation, 24 * kHourMs)},
                      {"hour", CurveJson(facts, evaluation, kHourMs)}};
  }
  return json.dump(2) + "\n";
}

}  // namespace freshet
