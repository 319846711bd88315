#include "inference/int8_catalogue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "inference/number_types.h"

namespace freshet {
namespace {

constexpr float kMostCode = 127;
constexpr int kZero = 128;  // the code of 0 in a user's vector
constexpr Int8Catalogue::Reading kSaysNothing = {.unit = 1, .bound = std::numeric_limits<float>::infinity()};

}  // namespace

Result<std::unique_ptr<const Int8Catalogue>> Int8Catalogue::Make(const Int8CatalogueShape& shape,
                                                                 std::span<const float> table,
                                                                 std::span<const float> item_scales) {
  std::unique_ptr<Int8Catalogue> catalogue(new Int8Catalogue());
  catalogue->shape_ = shape;
  ASSIGN_OR_RETURN(catalogue->product_,
                   MatrixProduct::Make(
                       {.inner = shape.dim, .columns = shape.block_items, .max_rows = shape.max_users, .int8 = true}));
  float most = 0;
  for (size_t i = 0; i < table.size(); ++i) most = std::max(most, std::abs(table[i] * item_scales[i / shape.dim]));
  catalogue->step_ = Int8Scale(most);
  std::vector<float> rows;  // of one block
  for (size_t row = 0; row < item_scales.size(); ++row) {
    for (size_t c = 0; c < shape.dim; ++c) rows.push_back(table[row * shape.dim + c] * item_scales[row]);
    if ((row + 1) % shape.block_items != 0 && row + 1 < item_scales.size()) continue;
    RETURN_IF_ERROR(catalogue->AddBlock(rows));
    rows.clear();
  }
  return std::unique_ptr<const Int8Catalogue>(std::move(catalogue));
}

Status Int8Catalogue::AddBlock(std::span<const float> rows) {
  const size_t d = shape_.dim, width = shape_.block_items;
  std::vector<int8_t> codes(d * width);  // [dim, items]
  Block block;
  block.bias.resize(width);
  for (size_t item = 0; item * d < rows.size(); ++item) {
    double norm = 0, error = 0;
    for (size_t c = 0; c < d; ++c) {
      const float value = rows[item * d + c];
      const float code = std::clamp(std::round(value / step_), -kMostCode, kMostCode);
      const double meant = static_cast<double>(code) * step_;
      norm += meant * meant;
      error += (value - meant) * (value - meant);
      codes[c * width + item] = static_cast<int8_t>(code);
      block.bias[item] -= kZero * code;
    }
    norm_ = std::max(norm_, std::sqrt(norm));
    error_ = std::max(error_, std::sqrt(error));
  }
  ASSIGN_OR_RETURN(block.weights, product_->PackInt8(codes.data()));
  blocks_.push_back(std::move(block));
  return {};
}

Int8Catalogue::Reading Int8Catalogue::Quantise(const float* user_vector, uint8_t* codes) const {
  const std::span<const float> values(user_vector, shape_.dim);
  std::fill_n(codes, shape_.dim, static_cast<uint8_t>(kZero));
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) return kSaysNothing;
  float most = 0;
  for (const float value : values) most = std::max(most, std::abs(value));
  const float step = Int8Scale(most), codes_per_unit = 1 / step;
  double norm = 0, error = 0;
  for (size_t c = 0; c < shape_.dim; ++c) {
    const int code = std::min(static_cast<int>(values[c] * codes_per_unit + kZero + .5f), 255);
    const double off = values[c] - static_cast<double>(code - kZero) * step;
    norm += static_cast<double>(values[c]) * values[c];
    error += off * off;
    codes[c] = static_cast<uint8_t>(code);
  }
  norm = std::sqrt(norm);
  error = std::sqrt(error);
  const double unit = static_cast<double>(step) * step_;
  if (unit < 1e-30 || unit > 1e30) return kSaysNothing;  // float32 could not count in it
  const double approximation = error * norm_ + norm * error_;
  // What float32 sums of `dim` products, and thresholds that are reckoned in float32, are off.
  const double rounding =
      (norm + error) * (norm_ + error_) * static_cast<double>(shape_.dim + 8) * std::numeric_limits<float>::epsilon();
  return {.unit = static_cast<float>(unit), .bound = static_cast<float>((approximation + rounding) / unit)};
}

void Int8Catalogue::Score(size_t users, const uint8_t* codes, size_t block, float* scores,
                          MatrixProduct::Context& context) const {
  product_->RunInt8(users, codes, blocks_[block].weights, blocks_[block].bias.data(), scores, context);
}

}  // namespace freshet
