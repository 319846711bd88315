#include "inference/number_types.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace freshet {
namespace {

constexpr float kMostCode = 127;
constexpr int kLeastFp16Exponent = -24;  // of subnormal numbers, in units of the last place

}  // namespace

std::string_view NumberTypeName(NumberType type) {
  switch (type) {
    case NumberType::kFloat32:
      return "fp32";
    case NumberType::kBFloat16:
      return "bf16";
    case NumberType::kInt8:
      return "int8";
  }
  return {};
}

std::optional<NumberType> ParseNumberType(std::string_view name) {
  for (const NumberType type : {NumberType::kFloat32, NumberType::kBFloat16, NumberType::kInt8}) {
    if (name == NumberTypeName(type)) return type;
  }
  return std::nullopt;
}

float Int8Scale(float largest_magnitude) {
  const float scale = largest_magnitude / kMostCode;
  return scale >= std::numeric_limits<float>::min() ? scale : 1;
}

Int8Matrix ToInt8(std::span<const float> values, size_t columns, ScaleAxis axis) {
  const size_t rows = values.size() / columns;
  Int8Matrix matrix;
  matrix.codes.resize(values.size());
  matrix.scales.resize(axis == ScaleAxis::kRows ? rows : columns);
  const auto line = [&](size_t i) { return axis == ScaleAxis::kRows ? i / columns : i % columns; };
  for (size_t i = 0; i < values.size(); ++i) {
    matrix.scales[line(i)] = std::max(matrix.scales[line(i)], std::abs(values[i]));
  }
  for (float& scale : matrix.scales) scale = Int8Scale(scale);
  for (size_t i = 0; i < values.size(); ++i) {
    matrix.codes[i] = static_cast<int8_t>(std::lround(values[i] / matrix.scales[line(i)]));
  }
  return matrix;
}

std::vector<float> DecodeProduct(const ProductCodes& matrix) {
  const size_t width = matrix.part_columns();
  std::vector<float> values(matrix.codes.size() * width);
  for (size_t i = 0; i < matrix.codes.size(); ++i) {
    const size_t centroid = i % matrix.parts * matrix.centroid_count + matrix.codes[i];
    std::copy_n(&matrix.centroids[centroid * width], width, &values[i * width]);
  }
  return values;
}

uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const bool overflows = std::isfinite(value) && (rounded & 0x7F80u) == 0x7F80u;
  return static_cast<uint16_t>(overflows ? rounded - 1 : rounded);
}

float FromBf16(uint16_t number) { return std::bit_cast<float>(uint32_t{number} << 16); }

// Of 5 bits of exponent and 10 of mantissa.
float FromFp16(uint16_t number) {
  const int exponent = number >> 10 & 31, mantissa = number & 1023;
  const float sign = number >> 15 == 0 ? 1.0f : -1.0f;
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), kLeastFp16Exponent);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 1 + kLeastFp16Exponent);
}

}  // namespace freshet
