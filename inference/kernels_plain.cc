#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

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

// What the cache holds of a row, keys and values [slots, dim].
struct CachedRows {
  CachedRows(const AttentionShape& shape, const AttentionRow& row)
      : dim(shape.dim), keys(row.slots * dim), values(row.slots * dim) {
    constexpr size_t kRows = KeyValueCache::kRowsPerBlock;
    for (size_t slot = 0; slot < row.slots; ++slot) {
      const std::byte* const layer = row.blocks[slot / kRows].get() + row.layer_offset;
      LoadKeyValue(shape, layer, slot % kRows, &keys[slot * dim], &values[slot * dim]);
    }
  }
  size_t dim;
  std::vector<float> keys, values;
};

// Scores of one head by slot. `pair(c, key)`: what column c of the query and of a key give.
template <typename Pair>
std::vector<double> Scores(const AttentionShape& shape, const AttentionRow& row, const CachedRows& cached, size_t head,
                           double scale, const Pair& pair) {
  const size_t h = shape.head_dim();
  std::vector<double> scores(row.slots);
  for (size_t slot = 0; slot < row.slots; ++slot) {
    for (size_t c = head * h; c < (head + 1) * h; ++c) scores[slot] += pair(c, cached.keys[slot * cached.dim + c]);
    scores[slot] = scores[slot] * scale + row.bias_pos[head * row.bias_pos_stride + slot];
    if (row.bias_time != nullptr) scores[slot] += row.bias_time[head * Model::kTimeBuckets + row.buckets[slot]];
  }
  return scores;
}

void SumValues(const AttentionShape& shape, const AttentionRow& row, const CachedRows& cached, size_t head,
               const std::vector<double>& weights) {
  const size_t h = shape.head_dim();
  for (size_t c = head * h; c < (head + 1) * h; ++c) {
    double sum = 0;
    for (size_t slot = 0; slot < row.slots; ++slot) sum += weights[slot] * cached.values[slot * cached.dim + c];
    row.out[c] = static_cast<float>(sum);
  }
}

void Softmax(std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
}

}  // namespace

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) {
  const CachedRows cached(shape, row);
  for (size_t head = 0; head < shape.heads; ++head) {
    const auto product = [&](size_t c, double key) { return row.query[c] * key; };
    std::vector<double> weights = Scores(shape, row, cached, head, 1, product);
    for (double& weight : weights) weight = SiluOf(weight) * row.scale;
    SumValues(shape, row, cached, head, weights);
  }
}

void SoftmaxAttention(const AttentionShape& shape, const AttentionRow& row) {
  const CachedRows cached(shape, row);
  for (size_t head = 0; head < shape.heads; ++head) {
    const auto product = [&](size_t c, double key) { return row.query[c] * key; };
    std::vector<double> weights = Scores(shape, row, cached, head, row.scale, product);
    Softmax(weights);
    SumValues(shape, row, cached, head, weights);
  }
}

void AdditiveAttention(const AttentionShape& shape, const AttentionRow& row) {
  const CachedRows cached(shape, row);
  for (size_t head = 0; head < shape.heads; ++head) {
    const auto tanh_of_sum = [&](size_t c, double key) {  // from the factors e^2q and, of fp32, e^2k
      const double k = shape.precision == CachePrecision::kFp32 ? std::log(key) / 2 : key;
      return row.score[c] * std::tanh(std::log(row.query[c]) / 2 + k);
    };
    std::vector<double> weights = Scores(shape, row, cached, head, 1, tanh_of_sum);
    Softmax(weights);
    SumValues(shape, row, cached, head, weights);
  }
}

void TanhFactors(float* x, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(std::exp(2 * std::clamp<double>(x[i], -kTanhBound, kTanhBound)));
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

void GatedSilu(const float* gate, const float* up, size_t count, float* y) {
  for (size_t i = 0; i < count; ++i) y[i] = static_cast<float>(SiluOf(gate[i]) * up[i]);
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

void DotRows(const float* x, const float* table, size_t dim, std::span<const RankKey> keys, float* products) {
  for (size_t i = 0; i < keys.size(); ++i) {
    double sum = 0;
    for (size_t c = 0; c < dim; ++c) sum += static_cast<double>(x[c]) * table[RowOf(keys[i]) * dim + c];
    products[i] = static_cast<float>(sum);
  }
}

}  // namespace plain
}  // namespace freshet
