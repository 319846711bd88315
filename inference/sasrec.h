// SASRec (Kang and McAuley 2018) as docs/model-format.md states it, in the forms that other people's checkpoints have.
//
// Positions are counted from the window's beginning, so that an event moves those of all events before it: nothing of
// one step is of use to the next, and each computes the whole window anew, W rows where other models compute one.
// Threads: a SasrecNetwork is immutable and shared; SasrecBuffers belong to one thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "inference/kernels.h"
#include "inference/matrix_product.h"
#include "inference/model.h"

namespace freshet {

struct SasrecNetwork {
  static constexpr size_t kMaxRows = 256;  // of one product

  const Model* model = nullptr;
  AttentionShape shape;
  std::unique_ptr<const MatrixProduct> square, key_value, ffn_in, ffn_out;  // all add to what is there

  // `model` outlives the network.
  static Result<std::unique_ptr<const SasrecNetwork>> Make(const Model& model);
};

struct SasrecBuffers {
  explicit SasrecBuffers(const SasrecNetwork& network);

  std::vector<ItemRow> window;       // the user's items, oldest first
  AlignedFloats x;                   // [rows, d] the residual stream
  AlignedFloats normed;              // [rows, d]
  AlignedFloats projected;           // [rows, 2d] keys and values; [rows, d] queries; or [rows, F]
  AlignedFloats attended;            // [rows, d]
  AlignedFloats weights;             // [heads, W rounded up]
  std::vector<AlignedBytes> blocks;  // one layer's keys and values, as AttentionRow has them
  std::vector<float> slot_bias;      // [W rounded up]
  std::unique_ptr<MatrixProduct::Context> square, key_value, ffn_in, ffn_out;
};

// The normalised output [dim] after buffers.window, of 1 to W items.
void Recompute(const SasrecNetwork& network, SasrecBuffers& buffers, float* user_vector);

// The same by the book, over all W rows, those before the first event included. `items`: 1 to W, oldest first.
std::vector<float> RecomputePlain(const Model& model, std::span<const ItemRow> items);

}  // namespace freshet
