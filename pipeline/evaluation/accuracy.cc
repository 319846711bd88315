#include "pipeline/evaluation/accuracy.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace freshet {
namespace {

constexpr Slice kSlices[] = {
    {"head_items", [](const Case& asked) { return asked.head; }},
    {"tail_items", [](const Case& asked) { return !asked.head; }},
    {"new_users", [](const Case& asked) { return asked.new_user; }},
    {"known_users", [](const Case& asked) { return !asked.new_user; }},
    {"new_items", [](const Case& asked) { return asked.new_item; }},
    {"known_items", [](const Case& asked) { return !asked.new_item; }},
    {"first_events", [](const Case& asked) { return asked.history == 0; }},
    {"later_events", [](const Case& asked) { return asked.history > 0; }},
};
constexpr size_t kCommonSlices = 4;

int64_t FloorTo(int64_t time_ms, int64_t length_ms) { return time_ms - (time_ms % length_ms + length_ms) % length_ms; }

}  // namespace

const Accuracy::AtK& Accuracy::At(size_t cutoff) const {
  const auto found = std::find(kCutoffs.begin(), kCutoffs.end(), cutoff);
  assert(found != kCutoffs.end());
  return at[static_cast<size_t>(found - kCutoffs.begin())];
}

double NdcgOf(uint32_t rank, size_t cutoff) {
  return rank == 0 || rank > cutoff ? 0 : 1 / std::log2(static_cast<double>(rank) + 1);
}

double ReciprocalOf(uint32_t rank) { return rank == 0 ? 0 : 1.0 / rank; }

Accuracy Measure(std::span<const Case> cases, std::span<const uint32_t> ranks,
                 const std::function<bool(const Case&)>& select) {
  Accuracy mean;
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!select(cases[i])) continue;
    ++mean.cases;
    mean.mrr += ReciprocalOf(ranks[i]);
    for (size_t k = 0; k < kCutoffs.size(); ++k) {
      if (ranks[i] == 0 || ranks[i] > kCutoffs[k]) continue;
      mean.at[k].hr += 1;
      mean.at[k].ndcg += NdcgOf(ranks[i], kCutoffs[k]);
    }
  }
  const auto count = static_cast<double>(std::max<int64_t>(mean.cases, 1));
  mean.mrr /= count;
  for (size_t k = 0; k < kCutoffs.size(); ++k) {
    const auto cutoff = static_cast<double>(kCutoffs[k]);
    mean.at[k].hr /= count;
    mean.at[k].ndcg /= count;
    mean.at[k].precision = mean.at[k].hr / cutoff;
    mean.at[k].f1 = mean.at[k].hr * 2 / (cutoff + 1);
  }
  return mean;
}

Accuracy Measure(std::span<const Case> cases, std::span<const uint32_t> ranks) {
  return Measure(cases, ranks, [](const Case&) { return true; });
}

std::span<const Slice> SlicesOf(bool items_appear) {
  return std::span(kSlices).first(items_appear ? std::size(kSlices) : kCommonSlices);
}

std::map<int64_t, CurvePoint> CurveOf(std::span<const Case> cases, std::span<const Outcome> outcomes,
                                      int64_t length_ms) {
  std::map<int64_t, CurvePoint> curve;
  for (size_t i = 0; i < cases.size(); ++i) {
    CurvePoint& point = curve[FloorTo(cases[i].now_ms, length_ms)];
    ++point.cases;
    point.hr.resize(outcomes.size());
    point.ndcg.resize(outcomes.size());
    for (size_t o = 0; o < outcomes.size(); ++o) {
      const uint32_t rank = outcomes[o].ranks[i];
      point.hr[o] += rank > 0 && rank <= 10 ? 1 : 0;
      point.ndcg[o] += NdcgOf(rank, 10);
    }
  }
  for (auto& [begin, point] : curve) {
    for (double& sum : point.hr) sum /= static_cast<double>(point.cases);
    for (double& sum : point.ndcg) sum /= static_cast<double>(point.cases);
  }
  return curve;
}

}  // namespace freshet
