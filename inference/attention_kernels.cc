// Attention over a ring, compiled once for each instruction set; the best one that the CPU has is chosen at the first
// call.
#include "inference/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "inference/attention_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <limits>

#include "inference/kernels-inl.h"
#include "inference/model.h"

HWY_BEFORE_NAMESPACE();
namespace freshet::HWY_NAMESPACE {

// How a query meets keys, and what becomes of the scores.
enum class Form { kSilu, kSoftmax, kAdditive };

// What a block holds of a layer, as `Number`s or fp32 scales, from `offset` on.
template <typename Number>
HWY_INLINE const Number* Part(const AttentionRow& row, size_t block, size_t offset) {
  return reinterpret_cast<const Number*>(row.blocks[block].get() + row.layer_offset + offset);
}

HWY_INLINE Vector LoadNumbers(const float* at) { return hn::LoadU(Floats(), at); }

HWY_INLINE Vector LoadNumbers(const hwy::float16_t* at) {
  return hn::PromoteTo(Floats(), hn::LoadU(hn::Rebind<hwy::float16_t, Floats>(), at));
}

HWY_INLINE Vector LoadNumbers(const int8_t* at) {
  const hn::RebindToSigned<Floats> di;
  return hn::ConvertTo(Floats(), hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, Floats>(), at)));
}

// e^2k of keys k, as TanhFactors() has it.
HWY_INLINE Vector FactorOf(Vector key) {
  const Floats d;
  const Vector bounded = hn::Min(hn::Max(key, hn::Set(d, -kTanhBound)), hn::Set(d, kTanhBound));
  return Exp(hn::Add(bounded, bounded));
}

// What one column adds to the scores of a vector of slots. Additive: a column's w · tanh is w - 2w / (1 + q · k) of the
// factors q and k, and w itself, the same for all slots, is nothing to a softmax. q · k may be infinite, which the
// reciprocal must not see.
template <Form kForm, typename Number>
HWY_INLINE Vector AddColumn(Vector query, Vector keys, Vector score_weight, Vector sum) {
  if constexpr (kForm != Form::kAdditive) return hn::MulAdd(query, keys, sum);
  const Floats d;
  if constexpr (sizeof(Number) != sizeof(float)) keys = FactorOf(keys);
  const Vector denominator = hn::Min(hn::MulAdd(query, keys, hn::Set(d, 1.0f)), hn::Set(d, 1e37f));
  return hn::NegMulAdd(score_weight, Reciprocal(denominator), sum);
}

// Biases on the scores of one vector of slots; of SiLU, the weights that values are summed with.
template <Form kForm>
HWY_INLINE Vector FinishScores(const AttentionRow& row, size_t head, size_t slot, Vector score) {
  const Floats d;
  if constexpr (kForm == Form::kSoftmax) score = hn::Mul(score, hn::Set(d, row.scale));
  score = hn::Add(score, hn::LoadU(d, row.bias_pos + head * row.bias_pos_stride + slot));
  if (row.bias_time != nullptr) {
    const hn::RebindToSigned<Floats> di;
    const auto buckets = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, Floats>(), row.buckets + slot));
    score = hn::Add(score, hn::GatherIndex(d, row.bias_time + head * Model::kTimeBuckets, buckets));
  }
  if constexpr (kForm == Form::kSilu) score = hn::Mul(SiluOf(score), hn::Set(d, row.scale));
  return score;
}

// Scores (SiLU: weights) of the slots of kBlocks blocks, for one head. Those of 16 slots come from keys [dim, 16]
// without horizontal sums; even and odd columns add up apart where registers allow, to hide latency.
template <Form kForm, typename Number, size_t kBlocks>
HWY_INLINE void ScoresOfBlocks(const AttentionShape& shape, const AttentionRow& row, size_t head, size_t first_block,
                               float* HWY_RESTRICT weights) {
  constexpr size_t kVectors = kBlocks * kVectorsPerBlock;
  constexpr size_t kChains = kVectors <= 4 ? 2 : 1;
  const Floats d;
  const size_t h = shape.head_dim();
  const float* HWY_RESTRICT query = row.query + head * h;
  constexpr bool kScaled = sizeof(Number) == 1;
  const Number* keys[kBlocks];
  Vector scales[kVectors];
  for (size_t b = 0; b < kBlocks; ++b) keys[b] = Part<Number>(row, first_block + b, 0) + head * h * kRows;
  for (size_t v = 0; kScaled && v < kVectors; ++v) {
    const float* const of_head = Part<float>(row, first_block + v / kVectorsPerBlock, shape.key_scales_offset());
    scales[v] = hn::LoadU(d, of_head + head * kRows + v % kVectorsPerBlock * kLanes);
  }
  Vector sums[kChains][kVectors];
  for (auto& chain : sums) {
    for (Vector& sum : chain) sum = hn::Zero(d);
  }
  const auto add = [&](size_t c, Vector* HWY_RESTRICT sum) HWY_ATTR {
    const Vector q = hn::Set(d, query[c]);
    const Vector score_weight = hn::Set(d, kForm == Form::kAdditive ? 2 * row.score[head * h + c] : 0.0f);
    for (size_t v = 0; v < kVectors; ++v) {
      Vector key = LoadNumbers(keys[v / kVectorsPerBlock] + c * kRows + v % kVectorsPerBlock * kLanes);
      if constexpr (kScaled && kForm == Form::kAdditive) key = hn::Mul(key, scales[v]);
      sum[v] = AddColumn<kForm, Number>(q, key, score_weight, sum[v]);
    }
  };
  size_t c = 0;
  for (; c + kChains <= h; c += kChains) {
    HWY_UNROLL(2)
    for (size_t chain = 0; chain < kChains; ++chain) add(c + chain, sums[chain]);
  }
  for (; c < h; ++c) add(c, sums[0]);
  for (size_t v = 0; v < kVectors; ++v) {
    Vector score = sums[0][v];
    for (size_t chain = 1; chain < kChains; ++chain) score = hn::Add(score, sums[chain][v]);
    if constexpr (kScaled && kForm != Form::kAdditive) score = hn::Mul(score, scales[v]);
    const size_t slot = first_block * kRows + v * kLanes;
    hn::StoreU(FinishScores<kForm>(row, head, slot, score), d, weights + slot);
  }
}

// scores [slots] become their softmax, by way of their maximum; what follows in the last vector counts for nothing.
HWY_INLINE void Softmax(float* HWY_RESTRICT scores, size_t slots) {
  const Floats d;
  const size_t whole = slots / kLanes * kLanes;
  const auto in_use = hn::FirstN(d, slots - whole);
  Vector largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (size_t i = 0; i < whole; i += kLanes) largest = hn::Max(largest, hn::LoadU(d, scores + i));
  if (whole < slots) largest = hn::Max(largest, hn::IfThenElse(in_use, hn::LoadU(d, scores + whole), largest));
  largest = hn::MaxOfLanes(d, largest);
  const auto exp_at = [&](size_t i) HWY_ATTR {
    return Exp(hn::Max(hn::Sub(hn::LoadU(d, scores + i), largest), hn::Set(d, -86.0f)));
  };
  Vector sum = hn::Zero(d);
  for (size_t i = 0; i < slots; i += kLanes) {
    Vector weight = exp_at(i);
    if (i == whole) weight = hn::IfThenElseZero(in_use, weight);
    hn::StoreU(weight, d, scores + i);
    sum = hn::Add(sum, weight);
  }
  const Vector factor = hn::Set(d, 1.0f / hn::GetLane(hn::SumOfLanes(d, sum)));
  for (size_t i = 0; i < slots; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, scores + i), factor), d, scores + i);
}

// Weights of values as they are become those of int8 ones.
HWY_INLINE void ScaleWeights(const AttentionShape& shape, const AttentionRow& row, size_t head,
                             float* HWY_RESTRICT weights) {
  const Floats d;
  for (size_t first = 0; first < row.slots; first += kRows) {
    const float* const scales = Part<float>(row, first / kRows, shape.value_scales_offset()) + head * kRows;
    for (size_t i = 0; i < kRows; i += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, weights + first + i), hn::LoadU(d, scales + i)), d, weights + first + i);
    }
  }
}

// out[column..] of kVectors vectors = Σ_slots weight · value.
template <typename Number, size_t kVectors>
HWY_INLINE void SumValues(const AttentionShape& shape, const AttentionRow& row, const float* HWY_RESTRICT weights,
                          size_t column) {
  constexpr size_t kChains = kVectors >= 4 ? 2 : 4;
  const Floats d;
  Vector sums[kChains][kVectors];
  for (auto& chain : sums) {
    for (Vector& sum : chain) sum = hn::Zero(d);
  }
  const auto add = [&](Vector* HWY_RESTRICT sum, const Number* HWY_RESTRICT value, float weight) HWY_ATTR {
    const Vector w = hn::Set(d, weight);
    for (size_t v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(w, LoadNumbers(value + v * kLanes), sum[v]);
  };
  for (size_t first = 0; first < row.slots; first += kRows) {
    const Number* HWY_RESTRICT values = Part<Number>(row, first / kRows, shape.values_offset()) + column;
    const size_t slots = HWY_MIN(kRows, row.slots - first);
    size_t slot = 0;
    for (; slot + kChains <= slots; slot += kChains) {
      for (size_t chain = 0; chain < kChains; ++chain) {
        add(sums[chain], values + (slot + chain) * shape.dim, weights[first + slot + chain]);
      }
    }
    for (; slot < slots; ++slot) add(sums[0], values + slot * shape.dim, weights[first + slot]);
  }
  for (size_t v = 0; v < kVectors; ++v) {
    Vector sum = sums[0][v];
    for (size_t chain = 1; chain < kChains; ++chain) sum = hn::Add(sum, sums[chain][v]);
    hn::StoreU(sum, d, row.out + column + v * kLanes);
  }
}

template <Form kForm, typename Number>
HWY_INLINE void AttendTo(const AttentionShape& shape, const AttentionRow& row) {
  const size_t blocks = (row.slots + kRows - 1) / kRows;
  const size_t h = shape.head_dim();
  for (size_t head = 0; head < shape.heads; ++head) {
    float* const weights = row.weights + head * blocks * kRows;
    size_t block = 0;
    for (; block + 4 <= blocks; block += 4) ScoresOfBlocks<kForm, Number, 4>(shape, row, head, block, weights);
    if (block + 2 <= blocks) {
      ScoresOfBlocks<kForm, Number, 2>(shape, row, head, block, weights);
      block += 2;
    }
    if (block < blocks) ScoresOfBlocks<kForm, Number, 1>(shape, row, head, block, weights);
    if constexpr (kForm != Form::kSilu) Softmax(weights, row.slots);
    if constexpr (sizeof(Number) == 1) ScaleWeights(shape, row, head, weights);
  }
  // A head's last vector may reach into the next head's columns; that head, coming later, overwrites them.
  for (size_t head = 0; head < shape.heads; ++head) {
    const float* const weights = row.weights + head * blocks * kRows;
    const size_t end = (head + 1) * h;
    for (size_t column = head * h; column < end;) {
      const size_t vectors = (end - column + kLanes - 1) / kLanes;
      const size_t now = vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
      if (now == 4) SumValues<Number, 4>(shape, row, weights, column);
      if (now == 2) SumValues<Number, 2>(shape, row, weights, column);
      if (now == 1) SumValues<Number, 1>(shape, row, weights, column);
      column += now * kLanes;
    }
  }
}

template <Form kForm>
HWY_INLINE void Attend(const AttentionShape& shape, const AttentionRow& row) {
  switch (shape.precision) {
    case CachePrecision::kFp32:
      return AttendTo<kForm, float>(shape, row);
    case CachePrecision::kFp16:
      return AttendTo<kForm, hwy::float16_t>(shape, row);
    case CachePrecision::kInt8:
      return AttendTo<kForm, int8_t>(shape, row);
  }
}

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) { Attend<Form::kSilu>(shape, row); }
void SoftmaxAttention(const AttentionShape& shape, const AttentionRow& row) { Attend<Form::kSoftmax>(shape, row); }
void AdditiveAttention(const AttentionShape& shape, const AttentionRow& row) { Attend<Form::kAdditive>(shape, row); }

}  // namespace freshet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace freshet {
namespace {

HWY_EXPORT(SiluAttention);
HWY_EXPORT(SoftmaxAttention);
HWY_EXPORT(AdditiveAttention);

}  // namespace

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) {
  HWY_DYNAMIC_DISPATCH(SiluAttention)(shape, row);
}

void SoftmaxAttention(const AttentionShape& shape, const AttentionRow& row) {
  HWY_DYNAMIC_DISPATCH(SoftmaxAttention)(shape, row);
}

void AdditiveAttention(const AttentionShape& shape, const AttentionRow& row) {
  HWY_DYNAMIC_DISPATCH(AdditiveAttention)(shape, row);
}

}  // namespace freshet
#endif
