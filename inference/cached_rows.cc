// Compiled once for each instruction set; the best one that the CPU has is chosen at the first call.
#include "inference/cached_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "inference/cached_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "inference/kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace freshet::HWY_NAMESPACE {

using Words = hn::RebindToUnsigned<Floats>;
using Halves = hn::Rebind<uint16_t, Floats>;
using Bytes = hn::Rebind<int8_t, Floats>;

// The bits of x as binary16, to the nearest, ties to even. Highway's own conversion truncates where the processor has
// none.
HWY_INLINE hn::Vec<Halves> HalvesOf(Vector x) {
  const Floats d;
  const Words du;
  const Halves dh;
  const Vector bounded = hn::Min(hn::Max(x, hn::Set(d, -65504.0f)), hn::Set(d, 65504.0f));
#if HWY_TARGET <= HWY_AVX2
  return hn::BitCast(dh, hn::DemoteTo(hn::Rebind<hwy::float16_t, Floats>(), bounded));
#else
  const Vector magnitude = hn::Abs(bounded);
  const auto bits = hn::BitCast(du, magnitude);
  const auto sign = hn::ShiftRight<16>(hn::Xor(bits, hn::BitCast(du, bounded)));
  // Adding just below half of what is cut off, and one more where what stays is odd.
  const auto odd = hn::And(hn::ShiftRight<13>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0xFFF)), odd);
  const auto normal = hn::Sub(hn::ShiftRight<13>(rounded), hn::Set(du, (127 - 15) << 10));
  // Below 2^-14 the quantum is 2^-24, which is that of fp32 numbers from 0.5 to 1.
  const Vector half = hn::Set(d, 0.5f);
  const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(magnitude, half)), hn::BitCast(du, half));
  const auto is_subnormal = hn::RebindMask(du, hn::Lt(magnitude, hn::Set(d, 0x1p-14f)));
  return hn::TruncateTo(dh, hn::Or(sign, hn::IfThenElse(is_subnormal, subnormal, normal)));
#endif
}

HWY_INLINE hn::Vec<Bytes> BytesOf(Vector x, Vector per_scale) {
  return hn::DemoteTo(Bytes(), hn::NearestInt(hn::Mul(x, per_scale)));
}

// A vector as numbers of the cache; `per_scale` is for int8.
HWY_INLINE void StoreNumbers(Vector x, Vector, uint16_t* to) { hn::StoreU(HalvesOf(x), Halves(), to); }
HWY_INLINE void StoreNumbers(Vector x, Vector per_scale, int8_t* to) { hn::StoreU(BytesOf(x, per_scale), Bytes(), to); }

HWY_INLINE float LargestMagnitude(const float* HWY_RESTRICT x, size_t count) {
  const Floats d;
  Vector largest = hn::Zero(d);
  size_t c = 0;
  for (; c + kLanes <= count; c += kLanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(d, x + c)));
  if (c < count) {
    largest = hn::Max(largest, hn::IfThenElseZero(hn::FirstN(d, count - c), hn::Abs(hn::LoadU(d, x + c))));
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

// Writes x [dim]: number c to numbers[c · stride], the scale of each head, of int8, to scales[head · 16].
HWY_INLINE void StoreRow(const AttentionShape& shape, const float* HWY_RESTRICT x, float* HWY_RESTRICT numbers,
                         size_t stride, float*) {
  for (size_t c = 0; c < shape.dim; ++c) numbers[c * stride] = x[c];
}

template <typename Number>
HWY_INLINE void StoreRow(const AttentionShape& shape, const float* HWY_RESTRICT x, Number* HWY_RESTRICT numbers,
                         size_t stride, float* HWY_RESTRICT scales) {
  const size_t h = shape.head_dim();
  for (size_t head = 0; head < shape.heads; ++head) {
    float per_scale = 0;
    if constexpr (sizeof(Number) == 1) {
      const float largest = LargestMagnitude(x + head * h, h);
      const bool is_zero = largest < kLeastInt8Row;
      scales[head * kRows] = is_zero ? 0 : largest / 127;
      per_scale = is_zero ? 0 : 127 / largest;
    }
    for (size_t c = head * h; c < (head + 1) * h; c += kLanes) {
      HWY_ALIGN Number lanes[kLanes];
      StoreNumbers(hn::LoadU(Floats(), x + c), hn::Set(Floats(), per_scale), lanes);
      const size_t count = HWY_MIN(kLanes, (head + 1) * h - c);
      if (stride == 1) {
        std::memcpy(numbers + c, lanes, count * sizeof(Number));
      } else {
        for (size_t lane = 0; lane < count; ++lane) numbers[(c + lane) * stride] = lanes[lane];
      }
    }
  }
}

template <typename Number>
HWY_INLINE void StoreRows(const AttentionShape& shape, const float* key, const float* value, size_t slot,
                          std::byte* layer) {
  Number* const numbers = reinterpret_cast<Number*>(layer);
  float* const key_scales = reinterpret_cast<float*>(layer + shape.key_scales_offset());
  float* const value_scales = reinterpret_cast<float*>(layer + shape.value_scales_offset());
  StoreRow(shape, key, numbers + slot, kRows, key_scales + slot);
  StoreRow(shape, value, numbers + (kRows + slot) * shape.dim, 1, value_scales + slot);
}

void StoreKeyValue(const AttentionShape& shape, const float* key, const float* value, size_t slot, std::byte* layer) {
  switch (shape.precision) {
    case CachePrecision::kFp32:
      return StoreRows<float>(shape, key, value, slot, layer);
    case CachePrecision::kFp16:
      return StoreRows<uint16_t>(shape, key, value, slot, layer);
    case CachePrecision::kInt8:
      return StoreRows<int8_t>(shape, key, value, slot, layer);
  }
}

}  // namespace freshet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace freshet {
namespace {

HWY_EXPORT(StoreKeyValue);

}  // namespace

void StoreKeyValue(const AttentionShape& shape, const float* key, const float* value, size_t slot, std::byte* layer) {
  HWY_DYNAMIC_DISPATCH(StoreKeyValue)(shape, key, value, slot, layer);
}

}  // namespace freshet
#endif
