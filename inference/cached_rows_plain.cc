#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "inference/cached_rows.h"
#include "inference/number_types.h"

namespace freshet::plain {
namespace {

constexpr size_t kRows = KeyValueCache::kRowsPerBlock;

// IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction.
constexpr float kLargestHalf = 65504;
constexpr int kLeastQuantum = -24;  // of subnormal numbers: 2^-24

uint16_t HalfOf(float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  int exponent;
  std::frexp(std::min(std::abs(x), kLargestHalf), &exponent);  // x < 2^exponent
  int quantum = std::max(exponent - 11, kLeastQuantum);
  auto count = static_cast<int>(std::nearbyint(std::ldexp(std::min(std::abs(x), kLargestHalf), -quantum)));
  if (count == 2048) count = 1024, ++quantum;
  const int biased = count < 1024 ? 0 : quantum - kLeastQuantum + 1;
  return static_cast<uint16_t>(sign | biased << 10 | (count & 1023));
}

template <typename Number>
void Put(std::byte* numbers, size_t index, Number number) {
  std::memcpy(numbers + index * sizeof(Number), &number, sizeof(Number));
}

template <typename Number>
Number Get(const std::byte* numbers, size_t index) {
  Number number;
  std::memcpy(&number, numbers + index * sizeof(Number), sizeof(Number));
  return number;
}

// Writes x [dim]; its number c goes to `first + c · stride`, its scales to `scales`[head, slot].
void Store(const AttentionShape& shape, const float* x, std::byte* numbers, size_t first, size_t stride,
           std::byte* scales, size_t slot) {
  const size_t h = shape.head_dim();
  for (size_t head = 0; head < shape.heads; ++head) {
    float largest = 0;
    for (size_t c = head * h; c < (head + 1) * h; ++c) largest = std::max(largest, std::abs(x[c]));
    const bool is_zero = largest < kLeastInt8Row;
    if (shape.precision == CachePrecision::kInt8) Put(scales, head * kRows + slot, is_zero ? 0 : largest / 127);
    const float per_scale = is_zero ? 0 : 127 / largest;
    for (size_t c = head * h; c < (head + 1) * h; ++c) {
      const size_t index = first + c * stride;
      if (shape.precision == CachePrecision::kFp32) Put(numbers, index, x[c]);
      if (shape.precision == CachePrecision::kFp16) Put(numbers, index, HalfOf(x[c]));
      if (shape.precision == CachePrecision::kInt8) {
        Put(numbers, index, static_cast<int8_t>(std::nearbyint(x[c] * per_scale)));
      }
    }
  }
}

void Load(const AttentionShape& shape, const std::byte* numbers, size_t first, size_t stride, const std::byte* scales,
          size_t slot, float* x) {
  for (size_t c = 0; c < shape.dim; ++c) {
    const size_t index = first + c * stride;
    if (shape.precision == CachePrecision::kFp32) x[c] = Get<float>(numbers, index);
    if (shape.precision == CachePrecision::kFp16) x[c] = FromFp16(Get<uint16_t>(numbers, index));
    if (shape.precision == CachePrecision::kInt8) {
      x[c] = Get<int8_t>(numbers, index) * Get<float>(scales, c / shape.head_dim() * kRows + slot);
    }
  }
}

}  // namespace

void StoreKeyValue(const AttentionShape& shape, const float* key, const float* value, size_t slot, std::byte* layer) {
  Store(shape, key, layer, slot, kRows, layer + shape.key_scales_offset(), slot);
  Store(shape, value, layer + shape.values_offset(), slot * shape.dim, 1, layer + shape.value_scales_offset(), slot);
}

void LoadKeyValue(const AttentionShape& shape, const std::byte* layer, size_t slot, float* key, float* value) {
  Load(shape, layer, slot, kRows, layer + shape.key_scales_offset(), slot, key);
  Load(shape, layer + shape.values_offset(), slot * shape.dim, 1, layer + shape.value_scales_offset(), slot, value);
}

}  // namespace freshet::plain
