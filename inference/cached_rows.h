// How a block of the key/value cache holds rows: the precision of their numbers, and where they lie.
//
// A block has a part for each layer: keys [dim, 16] (transposed: a column's 16 slots side by side), values [16, dim],
// and, of int8, the scales of both, [heads, 16] fp32 each.
//
//   fp32: as computed.
//   fp16: rounded to the nearest, ties to even; beyond ±65504 it becomes that.
//   int8: number · scale, with one scale for each head and row, largest / 127, so that nothing is clipped; a head
//         whose largest is below kLeastInt8Row is zero.
#pragma once

#include <cstddef>

#include "core/key_value_cache.h"

namespace freshet {

enum class CachePrecision { kFp32, kFp16, kInt8 };

inline constexpr float kLeastInt8Row = 1e-30f;  // 127 over it is a float

struct AttentionShape {
  size_t dim = 0;
  size_t heads = 0;  // divides dim
  CachePrecision precision = CachePrecision::kFp32;

  size_t head_dim() const { return dim / heads; }

  // In bytes. Offsets are from the layer's part of a block.
  size_t number_bytes() const {
    return precision == CachePrecision::kFp32 ? 4 : precision == CachePrecision::kFp16 ? 2 : 1;
  }
  size_t values_offset() const { return dim * KeyValueCache::kRowsPerBlock * number_bytes(); }
  size_t key_scales_offset() const { return 2 * values_offset(); }
  size_t value_scales_offset() const { return key_scales_offset() + scales_bytes(); }
  size_t layer_bytes() const { return value_scales_offset() + scales_bytes(); }

 private:
  size_t scales_bytes() const {
    return precision == CachePrecision::kInt8 ? heads * KeyValueCache::kRowsPerBlock * sizeof(float) : 0;
  }
};

// Writes key and value [dim] of a row into slot 0..15 of a layer's part of a block. The same bytes on every processor.
// May read kPad floats past the ends (kernels.h).
void StoreKeyValue(const AttentionShape& shape, const float* key, const float* value, size_t slot, std::byte* layer);

namespace plain {

void StoreKeyValue(const AttentionShape& shape, const float* key, const float* value, size_t slot, std::byte* layer);

// What a stored row is worth.
void LoadKeyValue(const AttentionShape& shape, const std::byte* layer, size_t slot, float* key, float* value);

}  // namespace plain
}  // namespace freshet
