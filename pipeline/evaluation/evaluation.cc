#include "pipeline/evaluation/evaluation.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "pipeline/evaluation/baselines.h"
#include "pipeline/evaluation/model_ranks.h"

namespace freshet {
namespace {

struct Task {
  using Run = std::function<void(std::atomic<int64_t>& done)>;
  Task(std::string of, Run work) : name(std::move(of)), run(std::move(work)) {}

  std::string name;
  Run run;
  std::atomic<int64_t> done = 0;  // cases
  std::atomic<bool> ended = false;
};

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

// Runs tasks on some threads, in order; the caller's tells the progress of the first that goes on. Of all together
// nothing could be told: the first, a model's, may take as long as all others, or a hundred times as long.
void RunAll(std::deque<Task>& tasks, int threads, int64_t cases, const Tell& tell) {
  std::atomic<size_t> next = 0;
  std::vector<std::jthread> workers;  // joined where one more cannot be started, too
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (size_t task = next++; task < tasks.size(); task = next++) {
        tasks[task].run(tasks[task].done);
        tasks[task].ended = true;
      }
    });
  }
  for (size_t first = 0; first < tasks.size();) {
    if (tasks[first].ended) {
      ++first;
      continue;
    }
    tell({tasks[first].name, "predictions", tasks[first].done, cases});
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (std::jthread& worker : workers) worker.join();
}

}  // namespace

Evaluation Evaluate(const EvaluationPlan& plan, std::span<const ServingModel* const> models,
                    const EvaluationOptions& options, const Tell& tell) {
  const Vocabulary& vocabulary = plan.log->vocabulary;
  const RowMap rows = plan.items_appear ? SameRows(vocabulary) : MapRows(vocabulary, models[0]->model->vocabulary);
  const size_t items = (plan.items_appear ? vocabulary : models[0]->model->vocabulary).item_ids().size();
  const BaselineOptions baseline{items, plan.items_appear, options.exclude_seen};
  const auto window_ms = std::max<int64_t>(1, std::llround(options.popularity_hours * 3'600'000));
  Evaluation evaluation;
  evaluation.models = models.size();
  std::deque<Task> tasks;
  for (size_t i = 0; i < models.size(); ++i) {
    tasks.emplace_back(models[i]->model->name, [&, i](std::atomic<int64_t>& done) {
      ModelRankOptions ranks{options.exclude_seen, window_ms, options.cache_bytes / models.size()};
      if (i == 0) ranks.later = options.later;
      evaluation.outcomes[i] = RankByModel(*models[i], plan, ranks, done);
    });
  }
  const auto add = [&](const char* name, auto make) {
    tasks.emplace_back(name, [&, name, make, i = tasks.size()](std::atomic<int64_t>& done) {
      evaluation.outcomes[i] = RankByBaseline(name, make(), plan, rows, items, done);
    });
  };
  if (plan.items_appear) {
    evaluation.blend = tasks.size();
    add("blend", [&] { return Blend(baseline, options.blend); });
  }
  evaluation.baselines = tasks.size();
  add("popularity", [&] { return Popularity(baseline, Popularity::kForEver); });
  add("popularity_recent", [&] { return Popularity(baseline, window_ms); });
  add("covisitation_last", [&] { return CoVisitation(baseline, 1); });
  add("covisitation_20", [&] { return CoVisitation(baseline, 20); });
  add("item_knn", [&] { return ItemKnn(baseline); });
  evaluation.outcomes.resize(tasks.size());
  RunAll(tasks, options.threads, static_cast<int64_t>(plan.cases.size()), tell);
  evaluation.uncertainty =
      Judge(plan.cases, evaluation.outcomes, models.size() == 2, options.seed, options.threads, tell);
  if (evaluation.blend) {
    evaluation.over_best = OverBest(plan.cases, std::span(evaluation.outcomes).subspan(*evaluation.blend), options.seed,
                                    options.threads, tell);
  }
  return evaluation;
}

}  // namespace freshet
