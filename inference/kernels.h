// The engine's vector kernels (Highway, dispatched at run time) and, in namespace plain, the same by the book.
//
// Row-major, and fp32 but for cached rows. Kernels work in whole vectors: memory that is read or written may be touched
// up to kPad floats past its end, so buffers need that much room; what is written there is meaningless. None allocates.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "inference/cached_rows.h"

namespace freshet {

inline constexpr size_t kPad = 16;

// One query row against the ring of cached rows, slots 0..slots-1 in any order of time.
struct AttentionRow {
  const float* query = nullptr;          // [dim]
  const AlignedBytes* blocks = nullptr;  // block b holds slots 16b.. (inference/cached_rows.h)
  size_t layer_offset = 0;               // of the layer's part of each block, in bytes
  size_t slots = 0;                      // >= 1
  const float* bias_pos = nullptr;       // [heads] rows of `bias_pos_stride`, by slot
  size_t bias_pos_stride = 0;
  const float* bias_time = nullptr;  // [heads, 129], by bucket; null: none
  const uint8_t* buckets = nullptr;  // [slots] time bucket of each slot; kPad more are read; used with bias_time
  float scale = 1;                   // SiLU: 1 / C; softmax: 1 / √head_dim
  const float* score = nullptr;      // [dim] additive attention's weights
  float* weights = nullptr;          // scratch, [heads, slots rounded up to 16]
  float* out = nullptr;              // [dim]
};

// out = Σ_slots SiLU(query · key + bias_pos + bias_time) / C · value, for each head.
void SiluAttention(const AttentionShape& shape, const AttentionRow& row);

// out = Σ_slots softmax(query · key / √head_dim + bias_pos + bias_time) · value, for each head.
void SoftmaxAttention(const AttentionShape& shape, const AttentionRow& row);

// out = Σ_slots softmax(score · tanh(q + k) + bias_pos + bias_time) · value, for each head; query and, of fp32, keys
// are the TanhFactors() of q and k. tanh(q + k) = 1 - 2 / (1 + e^2q · e^2k): one exponential for each key that is
// stored in place of one for each pair. Of fp16 and int8 keys are k themselves, since factors are too far apart for
// them.
void AdditiveAttention(const AttentionShape& shape, const AttentionRow& row);

// x = e^(2x), in place, with x first brought to ±kTanhBound, which float32 can hold: tanh(q + k) is then right unless q
// and k are both beyond ±34, on opposite sides. Writes nothing past `count`.
inline constexpr float kTanhBound = 43;
void TanhFactors(float* x, size_t count);

// y = LN(x) = (x - mean) / sqrt(variance + eps) over `dim` values.
void LayerNorm(const float* x, size_t dim, float eps, float* y);

// y = u ⊙ LN(x).
void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y);

// x = x / (1 + exp(-x)), in place.
void Silu(float* x, size_t count);

// y = SiLU(gate) ⊙ up.
void GatedSilu(const float* gate, const float* up, size_t count, float* y);

// buckets[i] = TimeBucket(now_s - times_s[i]).
void TimeBuckets(const int64_t* times_s, size_t count, int64_t now_s, uint8_t* buckets);

// A score and its row as one number: greater is better (higher score, then lower row).
using RankKey = uint64_t;
RankKey MakeRankKey(float score, uint32_t row);
float ScoreOf(RankKey key);
uint32_t RowOf(RankKey key);
float ScoreOfOrdered(uint32_t ordered);  // of an upper half

// The upper half of RankKey for each score, 0 for NaN.
void OrderScores(const float* scores, size_t count, uint32_t* ordered);

// Appends keys of `scores` [count], rows `first_row`.., that are above `threshold` to keys[found..], until `found`
// reaches `limit` or more (at most limit + kPad - 1, kPad keys past which may be written). Returns how many scores were
// looked at; all, or a multiple of kPad. NaN is never above. `scores` may be read kPad floats past its end.
size_t ScanAbove(const float* scores, size_t count, uint32_t first_row, float threshold, size_t limit, RankKey* keys,
                 size_t& found);

// products[i] = ⟨x, row RowOf(keys[i]) of `table`⟩; x [dim], table [rows, dim], neither read past its end.
void DotRows(const float* x, const float* table, size_t dim, std::span<const RankKey> keys, float* products);

void SortDescending(std::span<RankKey> keys);
void SortDescending(std::span<uint32_t> ordered);
void SortAscending(std::span<uint32_t> rows);

// The instruction set in use, e.g. "AVX3"; for benchmarks' headings.
const char* KernelTarget();

namespace plain {

void SiluAttention(const AttentionShape& shape, const AttentionRow& row);
void SoftmaxAttention(const AttentionShape& shape, const AttentionRow& row);
void AdditiveAttention(const AttentionShape& shape, const AttentionRow& row);
void TanhFactors(float* x, size_t count);
void LayerNorm(const float* x, size_t dim, float eps, float* y);
void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y);
void Silu(float* x, size_t count);
void GatedSilu(const float* gate, const float* up, size_t count, float* y);
void TimeBuckets(const int64_t* times_s, size_t count, int64_t now_s, uint8_t* buckets);
void OrderScores(const float* scores, size_t count, uint32_t* ordered);
size_t ScanAbove(const float* scores, size_t count, uint32_t first_row, float threshold, size_t limit, RankKey* keys,
                 size_t& found);
void DotRows(const float* x, const float* table, size_t dim, std::span<const RankKey> keys, float* products);

}  // namespace plain
}  // namespace freshet
