// Compiled once for each instruction set; the best one that the CPU has is chosen at the first call.
#include "inference/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "inference/kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <array>
#include <cmath>
#include <limits>

#include "inference/kernels-inl.h"
#include "inference/time_bucket.h"

HWY_BEFORE_NAMESPACE();
namespace freshet::HWY_NAMESPACE {

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

void GatedSilu(const float* gate, const float* up, size_t count, float* y) {
  const Floats d;
  for (size_t i = 0; i < count; i += kLanes) {
    hn::StoreU(hn::Mul(SiluOf(hn::LoadU(d, gate + i)), hn::LoadU(d, up + i)), d, y + i);
  }
}

void TanhFactors(float* x, size_t count) {
  const Floats d;
  const auto factor = [&](size_t i) HWY_ATTR {
    const Vector value = hn::LoadU(d, x + i);
    const Vector bounded = hn::Min(hn::Max(value, hn::Set(d, -kTanhBound)), hn::Set(d, kTanhBound));
    return Exp(hn::Add(bounded, bounded));
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(factor(i), d, x + i);
  if (i < count) hn::BlendedStore(factor(i), hn::FirstN(d, count - i), d, x + i);
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

HWY_INLINE float Dot(const float* HWY_RESTRICT x, const float* HWY_RESTRICT y, size_t dim) {
  const Floats d;
  Vector sum = hn::Zero(d);
  size_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) sum = hn::MulAdd(hn::LoadU(d, x + c), hn::LoadU(d, y + c), sum);
  float product = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; c < dim; ++c) product += x[c] * y[c];
  return product;
}

void DotRows(const float* x, const float* table, size_t dim, std::span<const RankKey> keys, float* products) {
  constexpr size_t kAhead = 16;  // rows are anywhere in memory: ask for them early
  constexpr size_t kLineFloats = 16;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (i + kAhead < keys.size()) {
      const float* const row = table + RowOf(keys[i + kAhead]) * dim;
      for (size_t c = 0; c < dim; c += kLineFloats) __builtin_prefetch(row + c, 0, 2);
    }
    products[i] = Dot(x, table + RowOf(keys[i]) * dim, dim);
  }
}

const char* KernelTarget() { return hwy::TargetName(HWY_TARGET); }

}  // namespace freshet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <hwy/contrib/sort/vqsort.h>

namespace freshet {
namespace {

HWY_EXPORT(LayerNorm);
HWY_EXPORT(GatedLayerNorm);
HWY_EXPORT(Silu);
HWY_EXPORT(GatedSilu);
HWY_EXPORT(TanhFactors);
HWY_EXPORT(TimeBuckets);
HWY_EXPORT(OrderScores);
HWY_EXPORT(ScanAbove);
HWY_EXPORT(DotRows);
HWY_EXPORT(KernelTarget);

const hwy::Sorter& Sorter() {
  static thread_local const hwy::Sorter sorter;
  return sorter;
}

}  // namespace

void LayerNorm(const float* x, size_t dim, float eps, float* y) { HWY_DYNAMIC_DISPATCH(LayerNorm)(x, dim, eps, y); }

void GatedLayerNorm(const float* u, const float* x, size_t dim, float eps, float* y) {
  HWY_DYNAMIC_DISPATCH(GatedLayerNorm)(u, x, dim, eps, y);
}

void Silu(float* x, size_t count) { HWY_DYNAMIC_DISPATCH(Silu)(x, count); }

void GatedSilu(const float* gate, const float* up, size_t count, float* y) {
  HWY_DYNAMIC_DISPATCH(GatedSilu)(gate, up, count, y);
}

void TanhFactors(float* x, size_t count) { HWY_DYNAMIC_DISPATCH(TanhFactors)(x, count); }

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

void DotRows(const float* x, const float* table, size_t dim, std::span<const RankKey> keys, float* products) {
  HWY_DYNAMIC_DISPATCH(DotRows)(x, table, dim, keys, products);
}

const char* KernelTarget() { return HWY_DYNAMIC_DISPATCH(KernelTarget)(); }

void SortDescending(std::span<RankKey> keys) { Sorter()(keys.data(), keys.size(), hwy::SortDescending()); }

void SortDescending(std::span<uint32_t> ordered) { Sorter()(ordered.data(), ordered.size(), hwy::SortDescending()); }

void SortAscending(std::span<uint32_t> rows) { Sorter()(rows.data(), rows.size(), hwy::SortAscending()); }

}  // namespace freshet
#endif
