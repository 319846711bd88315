// The k best items of one request, taken from the catalogue's scores as they come, span by span.
//
// Scores may be approximate, within a bound of the exact ones. Then whatever may be among the k best is kept, and
// scored exactly in the end: the answer is that of exact scores. Where too much may be (many items tie), candidates are
// scored exactly as they come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "inference/kernels.h"
#include "inference/ranker.h"

namespace freshet {

// One user's scores of a span: rows first_row.. of the catalogue, in pieces of block_items. Excluded ones get changed.
struct SpanScores {
  size_t first_row = 0;
  size_t items = 0;
  float* scores = nullptr;  // of the first block; the next block's are `block_stride` further on
  size_t block_items = 0;
  size_t block_stride = 0;

  float* At(size_t item) const { return scores + item / block_items * block_stride + item % block_items; }
};

// What approximate scores of one user mean: an item's exact one, ⟨user_vector, its row of `table`⟩ · its scale, is
// within (score ± bound) · unit.
struct Approximation {
  const float* user_vector = nullptr;
  const float* table = nullptr;  // [items, dim]
  size_t dim = 0;
  const float* item_scales = nullptr;
  float unit = 1;
  float bound = 0;  // in units
};

class Selection {
 public:
  // `approximation`: null where scores are exact; lives until Finish().
  void Begin(const RankRequest& request, size_t spans, const Approximation* approximation);

  // Spans come in order.
  void Take(const SpanScores& span);

  // Fills request.top.
  void Finish(RankRequest& request);

 private:
  size_t Limit() const;
  float Above() const;
  void Exclude(const SpanScores& span);
  float GuessThreshold(const SpanScores& span) const;
  bool GuessHolds(float guess);
  void Scan(const SpanScores& span);
  void Cut();
  void MakeExact(size_t first);

  size_t k_ = 0;
  const Approximation* approximation_ = nullptr;
  bool is_exact_ = true;       // the keys' scores
  std::vector<RankKey> keys_;  // candidates
  size_t found_ = 0;           // of them
  float threshold_ = 0;        // only what is above can still get in; as the keys' scores are
  std::vector<uint32_t> excluded_;
  size_t next_excluded_ = 0;
  std::vector<float> products_;
};

}  // namespace freshet
