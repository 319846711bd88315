// Compiled once for each instruction set; the best one that the CPU has is chosen at the first call.
#include "inference/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "inference/kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>
#include <cmath>
#include <limits>

#include "inference/model.h"
#include "inference/time_bucket.h"

HWY_BEFORE_NAMESPACE();
namespace freshet::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kRows = KeyValueCache::kRowsPerBlock;
using Floats = hn::CappedTag<float, kRows>;
using Vector = hn::Vec<Floats>;
constexpr size_t kLanes = hn::MaxLanes(Floats());
constexpr size_t kVectorsPerBlock = kRows / kLanes;

// exp(x), |x| <= 86: 2^n · exp(r) with |r| <= ln(2)/2, the latter by its Taylor series (error below 1e-8).
HWY_INLINE Vector Exp(Vector x) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const Vector n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
  // ln(2) in two parts, the first exact for every n that occurs.
  Vector r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  Vector p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, exponent));
}

// The reciprocal is an estimate of at least 11 bits with one Newton step: 1e-7 relative, a fifth of a division's time.
HWY_INLINE Vector SiluOf(Vector x) {
  const Floats d;
  const Vector bounded = hn::Min(hn::Max(hn::Neg(x), hn::Set(d, -86.0f)), hn::Set(d, 86.0f));
  const Vector denominator = hn::Add(hn::Set(d, 1.0f), Exp(bounded));
  const Vector estimate = hn::ApproximateReciprocal(denominator);
  return hn::Mul(x, hn::Mul(estimate, hn::NegMulAdd(denominator, estimate, hn::Set(d, 2.0f))));
}

HWY_INLINE const float* Keys(const AttentionRow& row, size_t block) {
  return row.blocks[block].get() + row.layer_offset;
}

// Biases and SiLU on the scores of one vector of slots: the weights that values are summed with.
HWY_INLINE Vector Weigh(const AttentionRow& row, size_t head, size_t slot, Vector score) {
  const Floats d;
  score = hn::Add(score, hn::LoadU(d, row.bias_pos + head * row.bias_pos_stride + slot));
  if (row.bias_time != nullptr) {
    const hn::RebindToSigned<Floats> di;
    const auto buckets = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, Floats>(), row.buckets + slot));
    score = hn::Add(score, hn::GatherIndex(d, row.bias_time + head * Model::kTimeBuckets, buckets));
  }
  return hn::Mul(SiluOf(score), hn::Set(d, row.inverse_scale));
}

// Weights of the slots of kBlocks blocks, for one head. Scores of 16 slots come from keys [dim, 16] without horizontal
// sums; even and odd columns add up apart where registers allow, to hide latency.
template <size_t kBlocks>
HWY_INLINE void WeightsOfBlocks(const AttentionShape& shape, const AttentionRow& row, size_t head, size_t first_block,
                                float* HWY_RESTRICT weights) {
  constexpr size_t kVectors = kBlocks * kVectorsPerBlock;
  constexpr size_t kChains = kVectors <= 4 ? 2 : 1;
  const Floats d;
  const size_t h = shape.head_dim();
  const float* HWY_RESTRICT query = row.query + head * h;
  const float* keys[kBlocks];
  for (size_t b = 0; b < kBlocks; ++b) keys[b] = Keys(row, first_block + b) + head * h * kRows;
  Vector sums[kChains][kVectors];
  for (auto& chain : sums) {
    for (Vector& sum : chain) sum = hn::Zero(d);
  }
  size_t c = 0;
  for (; c + kChains <= h; c += kChains) {
    HWY_UNROLL(2)
    for (size_t chain = 0; chain < kChains; ++chain) {
      const Vector q = hn::Set(d, query[c + chain]);
      for (size_t v = 0; v < kVectors; ++v) {
        const float* const at = keys[v / kVectorsPerBlock] + (c + chain) * kRows + v % kVectorsPerBlock * kLanes;
        sums[chain][v] = hn::MulAdd(q, hn::LoadU(d, at), sums[chain][v]);
      }
    }
  }
  for (; c < h; ++c) {
    const Vector q = hn::Set(d, query[c]);
    for (size_t v = 0; v < kVectors; ++v) {
      const float* const at = keys[v / kVectorsPerBlock] + c * kRows + v % kVectorsPerBlock * kLanes;
      sums[0][v] = hn::MulAdd(q, hn::LoadU(d, at), sums[0][v]);
    }
  }
  for (size_t v = 0; v < kVectors; ++v) {
    Vector score = sums[0][v];
    for (size_t chain = 1; chain < kChains; ++chain) score = hn::Add(score, sums[chain][v]);
    const size_t slot = first_block * kRows + v * kLanes;
    hn::StoreU(Weigh(row, head, slot, score), d, weights + slot);
  }
}

// out[column..] of kVectors vectors = Σ_slots weight · value.
template <size_t kVectors>
HWY_INLINE void SumValues(const AttentionShape& shape, const AttentionRow& row, const float* HWY_RESTRICT weights,
                          size_t column) {
  constexpr size_t kChains = kVectors >= 4 ? 2 : 4;
  const Floats d;
  Vector sums[kChains][kVectors];
  for (auto& chain : sums) {
    for (Vector& sum : chain) sum = hn::Zero(d);
  }
  const auto add = [&](Vector* HWY_RESTRICT sum, const float* HWY_RESTRICT value, float weight) HWY_ATTR {
    const Vector w = hn::Set(d, weight);
    for (size_t v = 0; v < kVectors; ++v) sum[v] = hn::MulAdd(w, hn::LoadU(d, value + v * kLanes), sum[v]);
  };
  for (size_t first = 0; first < row.slots; first += kRows) {
    const float* HWY_RESTRICT values = Keys(row, first / kRows) + shape.dim * kRows + column;
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

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) {
  const size_t blocks = (row.slots + kRows - 1) / kRows;
  const size_t h = shape.head_dim();
  for (size_t head = 0; head < shape.heads; ++head) {
    float* const weights = row.weights + head * blocks * kRows;
    size_t block = 0;
    for (; block + 4 <= blocks; block += 4) WeightsOfBlocks<4>(shape, row, head, block, weights);
    if (block + 2 <= blocks) {
      WeightsOfBlocks<2>(shape, row, head, block, weights);
      block += 2;
    }
    if (block < blocks) WeightsOfBlocks<1>(shape, row, head, block, weights);
  }
  // A head's last vector may reach into the next head's columns; that head, coming later, overwrites them.
  for (size_t head = 0; head < shape.heads; ++head) {
    const float* const weights = row.weights + head * blocks * kRows;
    const size_t end = (head + 1) * h;
    for (size_t column = head * h; column < end;) {
      const size_t vectors = (end - column + kLanes - 1) / kLanes;
      const size_t now = vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
      if (now == 4) SumValues<4>(shape, row, weights, column);
      if (now == 2) SumValues<2>(shape, row, weights, column);
      if (now == 1) SumValues<1>(shape, row, weights, column);
      column += now * kLanes;
    }
  }
}

// y = (x - mean) / sqrt(variance + eps), times u where there is one.
template <bool kGated>
HWY_INLINE void NormaliseRow(const float* u, const float* HWY_RESTRICT x, size_t dim, float eps, float* y) {
  const Floats d;
  Vector sum = hn::Zero(d);
  size_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) sum = hn::Add(sum, hn::LoadU(d, x + c));
  const size_t rest = c;
  const auto tail = hn::FirstN(d, dim - rest);
  if (rest < dim) sum = hn::Add(sum, hn::IfThenElseZero(tail, hn::LoadU(d, x + rest)));
  const float scale = 1.0f / static_cast<float>(dim);
  const Vector mean = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum)) * scale);
  Vector squares = hn::Zero(d);
  for (c = 0; c < rest; c += kLanes) {
    const Vector centred = hn::Sub(hn::LoadU(d, x + c), mean);
    squares = hn::MulAdd(centred, centred, squares);
  }
  if (rest < dim) {
    const Vector centred = hn::IfThenElseZero(tail, hn::Sub(hn::LoadU(d, x + rest), mean));
    squares = hn::MulAdd(centred, centred, squares);
  }
  const float variance = hn::GetLane(hn::SumOfLanes(d, squares)) * scale;
  const Vector factor = hn::Set(d, 1.0f / std::sqrt(variance + eps));
  for (c = 0; c < dim; c += kLanes) {
    Vector value = hn::Mul(hn::Sub(hn::LoadU(d, x + c), mean), factor);
    if constexpr (kGated) value = hn::Mul(value, hn::LoadU(d, u + c));
    hn::StoreU(value, d, y + c);
  }
}

void LayerNorm(const float* x, size_t dim, float eps, float* y) { NormaliseRow<false>(nullptr, x, dim, eps, y); }

void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y) {
  NormaliseRow<true>(u, x, dim, eps, y);
}

void Silu(float* x, size_t count) {
  const Floats d;
  for (size_t i = 0; i < count; i += kLanes) hn::StoreU(SiluOf(hn::LoadU(d, x + i)), d, x + i);
}

using Times = hn::CappedTag<int64_t, 8>;

// One vector of times.
HWY_INLINE void TimeBucketsOfVector(const int64_t* times_s, int64_t now_s, uint8_t* buckets, const BucketTable& table) {
  const Times di64;
  const hn::RebindToUnsigned<Times> d64;
  const hn::Rebind<uint32_t, Times> d32;
  const hn::Rebind<int32_t, Times> di32;
  const auto distance = hn::BitCast(d64, hn::Abs(hn::Sub(hn::Set(di64, now_s), hn::LoadU(di64, times_s))));
  if (HWY_UNLIKELY(!hn::AllTrue(d64, hn::Lt(distance, hn::Set(d64, BucketTable::kCap))))) {
    plain::TimeBuckets(times_s, hn::Lanes(di64), now_s, buckets);
    return;
  }
  const auto seconds = hn::BitCast(di32, hn::TruncateTo(d32, distance));
  const auto at_least_one = hn::ConvertTo(hn::Rebind<float, Times>(), hn::Max(seconds, hn::Set(di32, 1)));
  const auto bin = hn::Sub(hn::ShiftRight<BucketTable::kShift>(hn::BitCast(di32, at_least_one)),
                           hn::Set(di32, BucketTable::kFirstBin));
  const auto candidate = hn::GatherIndex(di32, table.candidate.data(), bin);
  const auto next = hn::GatherIndex(di32, table.next_threshold.data(), bin);
  const auto reached = hn::VecFromMask(di32, hn::Not(hn::Lt(seconds, next)));  // -1 where true
  const auto bucket = hn::BitCast(d32, hn::Sub(candidate, reached));
  hn::StoreU(hn::TruncateTo(hn::Rebind<uint8_t, Times>(), bucket), hn::Rebind<uint8_t, Times>(), buckets);
}

void TimeBuckets(const int64_t* times_s, size_t count, int64_t now_s, uint8_t* buckets, const BucketTable& table) {
  constexpr size_t kTimes = hn::MaxLanes(Times());
  size_t i = 0;
  for (; i + kTimes <= count; i += kTimes) TimeBucketsOfVector(times_s + i, now_s, buckets + i, table);
  if (i == count) return;
  int64_t rest[kTimes];
  for (size_t lane = 0; lane < kTimes; ++lane) rest[lane] = i + lane < count ? times_s[i + lane] : now_s;
  TimeBucketsOfVector(rest, now_s, buckets + i, table);
}

using Words = hn::RebindToUnsigned<Floats>;

// Bits of floats as numbers in the order of the floats; -0 becomes +0.
HWY_INLINE hn::Vec<Words> OrderedBits(Vector score) {
  const Words du;
  const auto sign = hn::Set(du, 0x80000000u);
  const auto bits = hn::BitCast(du, hn::Add(score, hn::Zero(Floats())));
  const auto negative = hn::Ne(hn::And(bits, sign), hn::Zero(du));
  return hn::IfThenElse(negative, hn::Not(bits), hn::Or(bits, sign));
}

void OrderScores(const float* scores, size_t count, uint32_t* ordered) {
  const Floats d;
  for (size_t i = 0; i < count; i += kLanes) {
    const Vector score = hn::LoadU(d, scores + i);
    const auto is_number = hn::RebindMask(Words(), hn::Eq(score, score));
    hn::StoreU(hn::IfThenElseZero(is_number, OrderedBits(score)), Words(), ordered + i);
  }
}

size_t ScanAbove(const float* scores, size_t count, uint32_t first_row, float threshold, size_t limit, RankKey* keys,
                 size_t& found) {
  const Floats d;
  const Words du;
  const Vector bound = hn::Set(d, threshold);
  const auto lane_rows = hn::Iota(du, first_row);
  size_t kept = found;
  size_t i = 0;
  for (; i < count; i += kRows) {
    if (kept >= limit) break;
    for (size_t j = i; j < i + kRows && j < count; j += kLanes) {
      const Vector score = hn::LoadU(d, scores + j);
      auto above = hn::Gt(score, bound);
      if (HWY_UNLIKELY(count - j < kLanes)) above = hn::And(above, hn::FirstN(d, count - j));
      if (HWY_LIKELY(hn::AllFalse(d, above))) continue;
      const auto rows = hn::Not(hn::Add(lane_rows, hn::Set(du, static_cast<uint32_t>(j))));
      const auto mask = hn::RebindMask(du, above);
      // A key's low half comes first in memory.
      hn::StoreInterleaved2(hn::Compress(rows, mask), hn::Compress(OrderedBits(score), mask), du,
                            reinterpret_cast<uint32_t*>(keys + kept));
      kept += hn::CountTrue(d, above);
    }
  }
  found = kept;
  return HWY_MIN(i, count);
}

const char* KernelTarget() { return hwy::TargetName(HWY_TARGET); }

}  // namespace freshet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/contrib/sort/vqsort.h>

namespace freshet {
namespace {

HWY_EXPORT(SiluAttention);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(GatedLayerNorm);
HWY_EXPORT(Silu);
HWY_EXPORT(TimeBuckets);
HWY_EXPORT(OrderScores);
HWY_EXPORT(ScanAbove);
HWY_EXPORT(KernelTarget);

const hwy::Sorter& Sorter() {
  static thread_local const hwy::Sorter sorter;
  return sorter;
}

}  // namespace

void SiluAttention(const AttentionShape& shape, const AttentionRow& row) {
  HWY_DYNAMIC_DISPATCH(SiluAttention)(shape, row);
}

void LayerNorm(const float* x, size_t dim, float eps, float* y) { HWY_DYNAMIC_DISPATCH(LayerNorm)(x, dim, eps, y); }

void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y) {
  HWY_DYNAMIC_DISPATCH(GatedLayerNorm)(u, x, dim, eps, y);
}

void Silu(float* x, size_t count) { HWY_DYNAMIC_DISPATCH(Silu)(x, count); }

void TimeBuckets(const int64_t* times_s, size_t count, int64_t now_s, uint8_t* buckets) {
  HWY_DYNAMIC_DISPATCH(TimeBuckets)(times_s, count, now_s, buckets, BucketTable::Get());
}

void OrderScores(const float* scores, size_t count, uint32_t* ordered) {
  HWY_DYNAMIC_DISPATCH(OrderScores)(scores, count, ordered);
}

size_t ScanAbove(const float* scores, size_t count, uint32_t first_row, float threshold, size_t limit, RankKey* keys,
                 size_t& found) {
  return HWY_DYNAMIC_DISPATCH(ScanAbove)(scores, count, first_row, threshold, limit, keys, found);
}

const char* KernelTarget() { return HWY_DYNAMIC_DISPATCH(KernelTarget)(); }

void SortDescending(std::span<RankKey> keys) { Sorter()(keys.data(), keys.size(), hwy::SortDescending()); }

void SortDescending(std::span<uint32_t> ordered) { Sorter()(ordered.data(), ordered.size(), hwy::SortDescending()); }

void SortAscending(std::span<uint32_t> rows) { Sorter()(rows.data(), rows.size(), hwy::SortAscending()); }

}  // namespace freshet
#endif
