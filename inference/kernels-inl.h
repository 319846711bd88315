// What the vector kernels share: vectors of one block's slots, exp and SiLU. Included once for each instruction set.
#if defined(FRESHET_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FRESHET_KERNELS_INL_H
#undef FRESHET_KERNELS_INL_H
#else
#define FRESHET_KERNELS_INL_H
#endif

#include <hwy/highway.h>

#include "core/key_value_cache.h"

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

// An estimate of at least 11 bits with one Newton step: 1e-7 relative, a fifth of a division's time.
HWY_INLINE Vector Reciprocal(Vector x) {
  const Vector estimate = hn::ApproximateReciprocal(x);
  return hn::Mul(estimate, hn::NegMulAdd(x, estimate, hn::Set(Floats(), 2.0f)));
}

HWY_INLINE Vector SiluOf(Vector x) {
  const Floats d;
  const Vector bounded = hn::Min(hn::Max(hn::Neg(x), hn::Set(d, -86.0f)), hn::Set(d, 86.0f));
  return hn::Mul(x, Reciprocal(hn::Add(hn::Set(d, 1.0f), Exp(bounded))));
}

}  // namespace freshet::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
