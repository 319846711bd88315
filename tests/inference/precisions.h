// The precisions that a cache may have, for tests over all of them.
#pragma once

#include <string>

#include "inference/cached_rows.h"

namespace freshet {

inline constexpr CachePrecision kPrecisions[] = {CachePrecision::kFp32, CachePrecision::kFp16, CachePrecision::kInt8};

inline std::string PrecisionName(CachePrecision precision) {
  return precision == CachePrecision::kFp32 ? "Fp32" : precision == CachePrecision::kFp16 ? "Fp16" : "Int8";
}

}  // namespace freshet
