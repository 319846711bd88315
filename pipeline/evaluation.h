// Leave-one-out accuracy through the C++ engine, with baselines beside it.
//
// Protocol: each user's last event in log order is the target; the model (or baseline) sees the user's events before it
// and ranks the whole catalogue, never a sample. Items of the user's own history are left out of the ranking where
// exclude_seen. Ties count against the model: the target's rank is 1 + the number of other candidates with a score >=
// its own. A target that is unknown to the model, or excluded as seen, is a miss. Users with fewer than two events are
// left out. Baselines learn from all events but the targets.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "pipeline/event_log.h"
#include "pipeline/serving_model.h"

namespace freshet {

inline constexpr int kCutoffs[] = {1, 5, 10, 20, 50, 100};

// Means over users. With one target a user, recall@k is HR@k, and precision@k is HR@k / k.
struct Accuracy {
  struct AtK {
    double hr = 0;
    double ndcg = 0;
    double f1 = 0;        // of precision@k and recall@k
    double coverage = 0;  // share of the catalogue that appears in some user's top k
  };
  std::map<int, AtK> at;
  double mrr = 0;  // over the whole ranking
};

struct Evaluation {
  int64_t users = 0;
  int64_t unknown_targets = 0;  // not in the model's vocabulary
  int64_t seen_targets = 0;     // excluded with the user's history
  int64_t candidates = 0;       // items that can be ranked
  Accuracy model;
  std::map<std::string, Accuracy> baselines;  // popularity, covisitation_last, covisitation_20
};

// `log` in the model's rows. `progress` is told how many users of the model's ranking are done.
Result<Evaluation> EvaluateLeaveOneOut(const ServingModel& serving, const EventLog& log, bool exclude_seen,
                                       const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace freshet
