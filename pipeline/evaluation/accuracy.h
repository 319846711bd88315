// From ranks to figures: means over cases, over parts of them, and along time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "pipeline/evaluation/ranking.h"

namespace freshet {

// Means over cases. With one target a case, recall@k is HR@k, and precision@k is HR@k / k.
struct Accuracy {
  struct AtK {
    double hr = 0;
    double ndcg = 0;
    double precision = 0;
    double f1 = 0;  // of precision@k and recall@k
  };
  int64_t cases = 0;
  std::array<AtK, kCutoffs.size()> at;  // by cutoff
  double mrr = 0;                       // over the whole ranking

  const AtK& At(size_t cutoff) const;  // REQUIRES: `cutoff` is one of kCutoffs
};

// What one case is worth.
double NdcgOf(uint32_t rank, size_t cutoff);
double ReciprocalOf(uint32_t rank);

// Over the cases that `select` holds for; all zero where there are none.
Accuracy Measure(std::span<const Case> cases, std::span<const uint32_t> ranks,
                 const std::function<bool(const Case&)>& select);
Accuracy Measure(std::span<const Case> cases, std::span<const uint32_t> ranks);

// A part of the cases that is worth a look of its own.
struct Slice {
  const char* name;
  bool (*holds)(const Case&);
};
// `items_appear`: those of the prequential protocol, which knows users' first events and new items.
std::span<const Slice> SlicesOf(bool items_appear);

// HR@10 and NDCG@10 of the cases of one hour or day, by predictor.
struct CurvePoint {
  int64_t cases = 0;
  std::vector<double> hr;
  std::vector<double> ndcg;
};
// By the beginning of the cases' intervals of `length_ms` (epoch milliseconds, UTC).
std::map<int64_t, CurvePoint> CurveOf(std::span<const Case> cases, std::span<const Outcome> outcomes,
                                      int64_t length_ms);

}  // namespace freshet
