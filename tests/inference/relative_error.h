// How far computed numbers are from the expected ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace freshet {

// max |a - b| / max |b| over `count` values; infinite where a value of `a` is not finite.
inline double RelativeError(const float* a, const float* b, size_t count) {
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

}  // namespace freshet
