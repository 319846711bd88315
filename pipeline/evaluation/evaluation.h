// The accuracy of one or two models through the C++ engine, with baselines beside it, on the cases of a plan.
//
// Everybody ranks a whole catalogue, never a sample: a model its own; a baseline the items that were known in the log
// so far (prequential), or the first model's (leave-one-out). Each predictor goes through the log by itself, so that
// they can do so at once. Order, ties, misses: plan.h and ranking.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/evaluation/blend.h"
#include "pipeline/evaluation/model_ranks.h"
#include "pipeline/evaluation/plan.h"
#include "pipeline/evaluation/ranking.h"
#include "pipeline/evaluation/significance.h"
#include "pipeline/serving_model.h"

namespace freshet {

struct EvaluationOptions {
  bool exclude_seen = true;     // leave items of the user's history (all of it) out of rankings
  double popularity_hours = 1;  // of the recent popularity
  BlendOptions blend;
  std::vector<LaterModel> later;         // of the first model, in order of time
  size_t cache_bytes = size_t{1} << 30;  // see ModelRankOptions
  int threads = 1;
  uint64_t seed = 1;  // of resampling
};

struct Evaluation {
  size_t models = 0;            // 1 or 2: the first so many outcomes
  std::optional<size_t> blend;  // its index in outcomes; prequential only
  size_t baselines = 0;         // the first baseline's
  std::vector<Outcome>
      outcomes;  // models, blend, popularity, popularity_recent, covisitation_last, covisitation_20, item_knn
  Uncertainty uncertainty;
  Ratios over_best{};  // prequential: blend over the best baseline
};

// `tell` hears of the first predictor that is at work, in cases, and then of the statistics.
Evaluation Evaluate(const EvaluationPlan& plan, std::span<const ServingModel* const> models,
                    const EvaluationOptions& options, const Tell& tell);

}  // namespace freshet
