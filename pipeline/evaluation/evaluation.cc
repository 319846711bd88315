#include "pipeline/evaluation/evaluation.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "pipeline/evaluation/baselines.h"
#include "pipeline/evaluation/model_ranks.h"

namespace freshet {
namespace {

using Task = std::function<void(std::atomic<int64_t>& done)>;

template <typename Predictor>
Outcome RankByBaseline(std::string name, Predictor predictor, const EvaluationPlan& plan, const RowMap& rows,
                       size_t items, std::atomic<int64_t>& done) {
  Outcome outcome;
  outcome.name = std::move(name);
  Lists lists(items);
  Ranking ranking;
  size_t known = 0;
  const auto history_of = [&](const auto& event) {
    return History(std::span(plan.log->users[event.user].tokens).first(event.history), rows);
  };
  const auto row_of = [&](const auto& event) {
    return Raw(rows.items[Raw(plan.log->users[event.user].tokens[event.history].item)]);
  };
  for (const Case& asked : plan.cases) {
    for (; known < asked.known; ++known) {
      const KnownEvent& event = plan.events[known];
      predictor.Consume(history_of(event), row_of(event), event.time_ms);
      lists.Count(row_of(event));
    }
    predictor.Rank(history_of(asked), row_of(asked), asked.now_ms, ranking);
    outcome.ranks.push_back(ranking.rank);
    lists.Add(ranking.top, predictor.candidates() - 1);
    ++done;
  }
  outcome.candidates = predictor.candidates() - 1;
  lists.Finish(outcome);
  return outcome;
}

// Runs tasks on some threads; the caller's tells the progress meanwhile.
void RunAll(std::span<const Task> tasks, int threads, int64_t total,
            const std::function<void(int64_t, int64_t)>& progress) {
  std::atomic<int64_t> done = 0;
  std::atomic<size_t> next = 0, ended = 0;
  std::vector<std::jthread> workers;  // joined where one more cannot be started, too
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (size_t task = next++; task < tasks.size(); task = next++) {
        tasks[task](done);
        ++ended;
      }
    });
  }
  for (; ended < tasks.size(); std::this_thread::sleep_for(std::chrono::milliseconds(5))) progress(done, total);
  for (std::jthread& worker : workers) worker.join();
  progress(total, total);
}

}  // namespace

Evaluation Evaluate(const EvaluationPlan& plan, std::span<const ServingModel* const> models,
                    const EvaluationOptions& options, const std::function<void(int64_t, int64_t)>& progress) {
  const Vocabulary& vocabulary = plan.log->vocabulary;
  const RowMap rows = plan.items_appear ? SameRows(vocabulary) : MapRows(vocabulary, models[0]->model->vocabulary);
  const size_t items = (plan.items_appear ? vocabulary : models[0]->model->vocabulary).item_ids().size();
  const BaselineOptions baseline{items, plan.items_appear, options.exclude_seen};
  const auto window_ms = std::max<int64_t>(1, std::llround(options.popularity_hours * 3'600'000));
  Evaluation evaluation;
  evaluation.models = models.size();
  std::vector<Task> tasks;
  for (size_t i = 0; i < models.size(); ++i) {
    tasks.push_back([&, i](std::atomic<int64_t>& done) {
      ModelRankOptions ranks{options.exclude_seen, window_ms, options.cache_bytes / models.size()};
      if (i == 0) ranks.later = options.later;
      evaluation.outcomes[i] = RankByModel(*models[i], plan, ranks, done);
    });
  }
  const auto add = [&](const char* name, auto make) {
    tasks.push_back([&, name, make, i = tasks.size()](std::atomic<int64_t>& done) {
      evaluation.outcomes[i] = RankByBaseline(name, make(), plan, rows, items, done);
    });
  };
  if (plan.items_appear) add("blend", [&] { return Blend(baseline, options.blend); });
  evaluation.baselines = tasks.size();
  add("popularity", [&] { return Popularity(baseline, Popularity::kForEver); });
  add("popularity_recent", [&] { return Popularity(baseline, window_ms); });
  add("covisitation_last", [&] { return CoVisitation(baseline, 1); });
  add("covisitation_20", [&] { return CoVisitation(baseline, 20); });
  add("item_knn", [&] { return ItemKnn(baseline); });
  evaluation.outcomes.resize(tasks.size());
  RunAll(tasks, options.threads, static_cast<int64_t>(tasks.size() * plan.cases.size()), progress);
  evaluation.uncertainty = Judge(plan.cases, evaluation.outcomes, models.size() == 2, options.seed, options.threads);
  if (plan.items_appear) {
    evaluation.over_best = OverBest(plan.cases, std::span(evaluation.outcomes).subspan(evaluation.baselines - 1),
                                    options.seed, options.threads);
  }
  return evaluation;
}

}  // namespace freshet
