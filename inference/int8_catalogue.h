// The item table in int8: approximate scores from a product of 8-bit numbers, each with a bound on how far off it is,
// so that a ranker can look exactly at the few items that matter and lose none.
//
// With û and x̂ what the codes of a user's vector u and of an item's row x stand for,
//   |⟨u, x⟩ − ⟨û, x̂⟩| ≤ ‖u − û‖·‖x̂‖ + ‖u‖·‖x − x̂‖      (Cauchy-Schwarz)
// All items share a step, so that a user's scores are whole numbers in one unit.
// Threads: immutable and shared; a context belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/key_value_cache.h"
#include "core/result.h"
#include "inference/matrix_product.h"

namespace freshet {

struct Int8CatalogueShape {
  size_t dim = 0;          // at most kMaxDim
  size_t block_items = 0;  // of one product
  size_t max_users = 0;    // at a time
};

class Int8Catalogue {
 public:
  static constexpr size_t kMaxDim = 512;  // the product's sums stay exact in float32

  // The exact score is within (score ± bound) · unit; bound is infinite where nothing can be told.
  struct Reading {
    float unit = 1;
    float bound = 0;
  };

  // Of the rows item_scales[row] · table[row], table [rows, dim].
  static Result<std::unique_ptr<const Int8Catalogue>> Make(const Int8CatalogueShape& shape,
                                                           std::span<const float> table,
                                                           std::span<const float> item_scales);

  // `user_vector` and `codes`: [dim]. How the user's scores are to be read.
  Reading Quantise(const float* user_vector, uint8_t* codes) const;

  // Scores of a block's items for all users: codes [users, dim], scores [users, block_items], with room as
  // MatrixProduct::Run() asks for.
  void Score(size_t users, const uint8_t* codes, size_t block, float* scores, MatrixProduct::Context& context) const;

  std::unique_ptr<MatrixProduct::Context> MakeContext() const { return product_->MakeContext(); }

 private:
  struct Block {
    PackedInt8 weights;       // codes, [dim, block_items]
    std::vector<float> bias;  // [block_items] takes back what the users' 128 add
  };

  Int8Catalogue() = default;
  Status AddBlock(std::span<const float> rows);

  Int8CatalogueShape shape_;
  std::unique_ptr<const MatrixProduct> product_;
  std::vector<Block> blocks_;
  float step_ = 1;    // x̂ = step · code
  double norm_ = 0;   // largest ‖x̂‖
  double error_ = 0;  // largest ‖x − x̂‖
};

}  // namespace freshet
