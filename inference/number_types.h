// Numbers of fewer bits than float32, in which a matrix may be stored: bfloat16, int8 with a float32 scale for each
// row or column, or codes of centroids. Forms and their use: docs/model-format.md, "Fewer bits".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace freshet {

enum class NumberType { kFloat32, kBFloat16, kInt8 };

// "fp32", "bf16", "int8".
std::string_view NumberTypeName(NumberType type);
std::optional<NumberType> ParseNumberType(std::string_view name);

// What has a scale of its own: each row of a table of which rows are taken, each column of a matrix that is multiplied
// by, so that a scale can be taken out of a dot product.
enum class ScaleAxis { kRows, kColumns };

// A row-major matrix as codes · scale.
struct Int8Matrix {
  std::vector<int8_t> codes;  // -127..127
  std::vector<float> scales;  // [rows] or [columns], above 0
};

// What a code from -127 to 127 is worth, so that the largest of the numbers is 127; 1 where all are as good as 0.
float Int8Scale(float largest_magnitude);

// Each scale is the Int8Scale() of its row or column. What was read from int8
// gets the same codes again.
Int8Matrix ToInt8(std::span<const float> values, size_t columns, ScaleAxis axis);

// A row-major matrix by product quantisation (Jégou et al. 2011): the columns are cut into `parts` parts of one width,
// and each part of a row is one of that part's centroids.
struct ProductCodes {
  size_t parts = 0;
  size_t centroid_count = 0;     // of each part
  std::vector<uint8_t> codes;    // [rows, parts], each below centroid_count
  std::vector<float> centroids;  // [parts, centroid_count, columns / parts]

  size_t part_columns() const { return centroids.size() / (parts * centroid_count); }
};

// The matrix, [rows, columns].
std::vector<float> DecodeProduct(const ProductCodes& matrix);

// The nearest bfloat16, of two the even one; finite where `value` is.
uint16_t ToBf16(float value);
float FromBf16(uint16_t number);

// IEEE 754 binary16.
float FromFp16(uint16_t number);

}  // namespace freshet
