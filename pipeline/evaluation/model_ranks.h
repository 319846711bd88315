// A model's rankings of a plan's cases, through the engine's incremental step.
//
// A user vector is that of the user's events before the case and of nothing else. A user's first event has none: it is
// ranked by the popularity of the last hours among all items of the log so far (the fallback), and its list counts
// neither for coverage nor for novelty. Where later models take over, as they do in a running instance, keys/values
// begin anew from the user's events; coverage is of the last one's items, whatever else the others list.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "pipeline/evaluation/ranking.h"
#include "pipeline/serving_model.h"

namespace freshet {

// A model that takes over from another.
struct LaterModel {
  int64_t from_ms = 0;
  const ServingModel* serving = nullptr;
};

// Where each takes over: at the first case that is not before its time.
std::vector<size_t> TakeOvers(const EvaluationPlan& plan, std::span<const LaterModel> later);

struct ModelRankOptions {
  bool exclude_seen = true;
  int64_t fallback_window_ms = 3'600'000;
  size_t cache_bytes = size_t{1} << 30;  // keys/values kept; beyond it the least recently used are rebuilt when needed
  std::span<const LaterModel> later = {};  // in order of time
};

// `done` counts cases.
Outcome RankByModel(const ServingModel& serving, const EvaluationPlan& plan, const ModelRankOptions& options,
                    std::atomic<int64_t>& done);

}  // namespace freshet
