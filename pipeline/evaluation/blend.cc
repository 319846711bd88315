#include "pipeline/evaluation/blend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace freshet {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

}  // namespace

double Fading::Doublings(int64_t time_ms) const { return static_cast<double>(time_ms - origin_ms_) / half_life_ms_; }

float Fading::Advance(int64_t time_ms) {
  if (!begun_) origin_ms_ = time_ms;
  begun_ = true;
  const double doublings = Doublings(time_ms);
  if (doublings <= kMostDoublings) return 1;
  origin_ms_ = time_ms;
  return static_cast<float>(std::exp2(-doublings));
}

float Fading::WeightAt(int64_t time_ms) const { return static_cast<float>(std::exp2(Doublings(time_ms))); }

double Fading::FadedAt(int64_t time_ms) const { return std::exp2(-Doublings(time_ms)); }

Blend::Blend(const BaselineOptions& options, const BlendOptions& blend)
    : blend_(blend),
      candidates_(options),
      popularity_fading_(blend.popularity_minutes),
      followers_fading_(blend.followers_minutes),
      popularity_(options.items),
      followers_(options.items),
      scores_(options.items) {}

void Blend::Consume(const History& history, uint32_t row, int64_t time_ms) {
  candidates_.Add(row);
  if (const float kept = popularity_fading_.Advance(time_ms); kept != 1) {
    for (float& count : popularity_) count *= kept;
    total_ = std::accumulate(popularity_.begin(), popularity_.end(), 0.0);
  }
  if (const float kept = followers_fading_.Advance(time_ms); kept != 1) {
    for (Weights& weights : followers_) weights.Scale(kept);
  }
  if (row == 0) return;
  const float weight = popularity_fading_.WeightAt(time_ms);
  popularity_[row] += weight;
  total_ += weight;
  if (history.size() > 0) followers_[history.Back(0)].Add(row, followers_fading_.WeightAt(time_ms));
}

void Blend::Score(const History& history, int64_t now_ms) {
  const float share = total_ > 0 ? static_cast<float>(blend_.popularity_weight / total_) : 0;
  for (uint32_t row = 0; row < candidates_.end(); ++row) scores_[row] = popularity_[row] * share;
  scores_[0] = kExcluded;
  if (history.size() == 0) return;
  const double gap_min =
      std::max(0.0, static_cast<double>(now_ms) / 1000 - static_cast<double>(history.Seconds())) / 60;
  const auto factor = static_cast<float>(std::exp2(-gap_min / blend_.gap_minutes) * followers_fading_.FadedAt(now_ms));
  for (const auto& [row, weight] : followers_[history.Back(0)].entries()) scores_[row] += weight * factor;
}

void Blend::Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking) {
  Score(history, now_ms);
  candidates_.Exclude(history);
  candidates_.VisitExcluded([&](uint32_t row) { scores_[row] = kExcluded; });
  const auto scores = std::span<const float>(scores_).first(candidates_.end());
  best_.Clear();
  best_.OfferAll(scores);
  best_.Take(ranking.top);
  ranking.rank = 0;
  if (!candidates_.Holds(target)) return;
  const float of_target = scores[target];
  ranking.rank = static_cast<uint32_t>(
      std::count_if(scores.begin(), scores.end(), [&](float score) { return score >= of_target; }));
}

}  // namespace freshet
