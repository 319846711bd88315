#include <bit>
#include <cmath>

#include "inference/engine.h"
#include "inference/kernels.h"

namespace freshet {

namespace {

uint32_t OrderedBits(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 ties with +0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

}  // namespace

RankKey MakeRankKey(float score, uint32_t row) { return RankKey{OrderedBits(score)} << 32 | ~row; }

float ScoreOfOrdered(uint32_t ordered) {
  return std::bit_cast<float>((ordered & 0x80000000u) != 0 ? ordered & 0x7FFFFFFFu : ~ordered);
}

float ScoreOf(RankKey key) { return ScoreOfOrdered(static_cast<uint32_t>(key >> 32)); }

uint32_t RowOf(RankKey key) { return ~static_cast<uint32_t>(key); }

namespace plain {
namespace {

double SiluOf(double y) { return y / (1 + std::exp(-y)); }

}  // namespace

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) {
  constexpr size_t kRows = KeyValueCache::kRowsPerBlock;
  const size_t h = shape.head_dim();
  for (size_t c = 0; c < shape.dim; ++c) {
    const size_t head = c / h;
    double sum = 0;
    for (size_t slot = 0; slot < row.slots; ++slot) {
      const float* const keys = row.blocks[slot / kRows].get() + row.layer_offset;
      const float* const values = keys + shape.dim * kRows;
      double score = row.bias_pos[head * row.bias_pos_stride + slot];
      if (row.bias_time != nullptr) score += row.bias_time[head * Model::kTimeBuckets + row.buckets[slot]];
      for (size_t i = head * h; i < (head + 1) * h; ++i) score += row.query[i] * keys[i * kRows + slot % kRows];
      sum += SiluOf(score) * row.inverse_scale * values[slot % kRows * shape.dim + c];
    }
    row.out[c] = static_cast<float>(sum);
  }
}

void LayerNorm(const float* x, size_t dim, float eps, float* y) {
  double mean = 0, variance = 0;
  for (size_t c = 0; c < dim; ++c) mean += x[c];
  mean /= static_cast<double>(dim);
  for (size_t c = 0; c < dim; ++c) variance += (x[c] - mean) * (x[c] - mean);
  variance /= static_cast<double>(dim);
  for (size_t c = 0; c < dim; ++c) y[c] = static_cast<float>((x[c] - mean) / std::sqrt(variance + eps));
}

void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y) {
  LayerNorm(x, dim, eps, y);
  for (size_t c = 0; c < dim; ++c) y[c] *= u[c];
}

void Silu(float* x, size_t count) {
  for (size_t i = 0; i < count; ++i) x[i] = static_cast<float>(SiluOf(x[i]));
}

void TimeBuckets(const int64_t* times_s, size_t count, int64_t now_s, uint8_t* buckets) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t delta = static_cast<uint64_t>(now_s) - static_cast<uint64_t>(times_s[i]);
    buckets[i] = static_cast<uint8_t>(TimeBucket(static_cast<int64_t>(delta)));
  }
}

void OrderScores(const float* scores, size_t count, uint32_t* ordered) {
  for (size_t i = 0; i < count; ++i) ordered[i] = std::isnan(scores[i]) ? 0 : OrderedBits(scores[i]);
}

size_t ScanAbove(const float* scores, size_t count, uint32_t first_row, float threshold, size_t limit, RankKey* keys,
                 size_t& found) {
  for (size_t i = 0; i < count; ++i) {
    if (i % kPad == 0 && found >= limit) return i;
    if (scores[i] > threshold) keys[found++] = MakeRankKey(scores[i], first_row + static_cast<uint32_t>(i));
  }
  return count;
}

}  // namespace plain
}  // namespace freshet
