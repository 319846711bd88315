// y = x · W on oneDNN, for one W's shape and any number of rows up to a limit. All row-major; 32-bit floats, or x and W
// of 8 bits.
//
// Primitives are made once, for 1, 2, 4, .. rows; a call takes the cheapest split of its rows into these.
// Threads: MatrixProduct is immutable and shared; a Context belongs to one thread. Each thread that runs a product
// makes OpenMP, which oneDNN is built on, single-threaded for itself: freshet's own workers are the parallelism.
// W of floats stays in its plain layout: measured on AVX-512, oneDNN's own blocked layouts gain nothing for inner <=
// 128.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/key_value_cache.h"
#include "core/result.h"

namespace freshet {

struct MatrixProductOptions {
  size_t inner = 0;         // columns of x, rows of W
  size_t columns = 0;       // of W and y
  size_t max_rows = 1;      // at a time; rounded up to a power of two
  bool accumulate = false;  // y += x · W + bias, instead of y = x · W
  bool int8 = false;        // x is uint8, W is int8, y = x · W + bias; not with `accumulate`
};

// Whether this CPU multiplies 8-bit numbers without saturation, and so faster than floats (AVX-512 VNNI).
bool HasInt8Products();

// The 8-bit weights of a product, as oneDNN lays them out; it alone can read them.
class PackedInt8 {
 private:
  friend class MatrixProduct;
  AlignedFloats memory_;  // aligned bytes, no floats
};

class MatrixProduct {
 public:
  // What a thread needs to run one product.
  class Context {
   public:
    ~Context();

   private:
    friend class MatrixProduct;
    Context();
    struct Parts;
    std::unique_ptr<Parts> parts_;
  };

  static Result<std::unique_ptr<const MatrixProduct>> Make(const MatrixProductOptions& options);
  ~MatrixProduct();

  std::unique_ptr<Context> MakeContext() const;

  // x [rows, inner], weights [inner, columns], bias [columns] (null unless `accumulate`), y [rows, columns]. x and y
  // have room for RoundedRows(rows) rows, and those of y past `rows` get meaningless values.
  // REQUIRES: 1 <= rows <= max_rows.
  void Run(size_t rows, const float* x, const float* weights, const float* bias, float* y, Context& context) const;

  // The same of 8-bit numbers, W as PackInt8() gives it. Exact while 255 · 127 · inner < 2^24.
  // REQUIRES: `int8`; HasInt8Products().
  void RunInt8(size_t rows, const uint8_t* x, const PackedInt8& weights, const float* bias, float* y,
               Context& context) const;

  // int8 weights [inner, columns] in the layout that oneDNN likes best.
  Result<PackedInt8> PackInt8(const int8_t* weights) const;
  size_t PackedBytes() const;

  // `rows` rounded up to a power of two.
  static size_t RoundedRows(size_t rows);

 private:
  struct Parts;
  explicit MatrixProduct(std::unique_ptr<const Parts> parts);
  void Execute(size_t rows, const void* x, const void* weights, const float* bias, float* y, Context& context) const;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace freshet
