// What a model of ids misses where items are new all day: what is read now, and what is read after the item that the
// user looked at last. Two counts that fade, as one distribution over the items.
#pragma once

#include <cstdint>
#include <vector>

#include "pipeline/evaluation/baselines.h"

namespace freshet {

// A half-life is of the weight of an event; minutes of event time.
struct BlendOptions {
  double popularity_minutes = 5;
  double followers_minutes = 30;
  double gap_minutes = 5;         // of the user's newest item as a hint, by the time since
  double popularity_weight = 10;  // as many clicks after the user's newest item
};

// The weight of an event, 2^(time / half-life), relative to an origin that moves on before it grows too large for a
// float: what is kept is then to be multiplied by what Advance() returns. All weights fade alike, so that kept ones
// need no other change, and what counts for less than 2^-64 of the newest may count for nothing.
class Fading {
 public:
  explicit Fading(double half_life_min) : half_life_ms_(half_life_min * 60'000) {}

  // Before an event is taken in: 1, or what kept weights become.
  float Advance(int64_t time_ms);
  float WeightAt(int64_t time_ms) const;
  // Of a weight of one at `time_ms`; `weight` of an event fades to weight * FadedAt(now).
  double FadedAt(int64_t time_ms) const;

 private:
  static constexpr double kMostDoublings = 64;

  double Doublings(int64_t time_ms) const;

  double half_life_ms_;
  int64_t origin_ms_ = 0;
  bool begun_ = false;
};

// Scores item i, for a user whose newest item is j, looked at `gap` ago:
//   popularity_weight · p(i) / Σ p  +  2^(-gap / gap_minutes) · f(j, i)
// p(i): clicks on i, f(j, i): those that directly followed one of the same user on j; both fading. That is the mean of
// a Dirichlet posterior (MacKay and Peto 1995) for what follows j, up to a factor of the user's: popularity_weight
// imaginary clicks of what is popular, and those seen. To be used as a baseline is: baselines.h.
class Blend {
 public:
  Blend(const BaselineOptions& options, const BlendOptions& blend);

  uint32_t candidates() const { return candidates_.end(); }
  void Consume(const History& history, uint32_t row, int64_t time_ms);
  void Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking);

 private:
  void Score(const History& history, int64_t now_ms);

  BlendOptions blend_;
  Candidates candidates_;
  Fading popularity_fading_;
  Fading followers_fading_;
  std::vector<float> popularity_;
  double total_ = 0;                // of popularity_
  std::vector<Weights> followers_;  // by the item before
  std::vector<float> scores_;
  Best best_;
};

}  // namespace freshet
