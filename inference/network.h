// What an engine is made of, for engine.cc: a model prepared for the incremental step, and a thread's memory for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/result.h"
#include "inference/kernels.h"
#include "inference/matrix_product.h"
#include "inference/model.h"

namespace freshet {

// Immutable.
struct Network {
  static constexpr size_t kSlots = KeyValueCache::kRowsPerBlock;
  static constexpr size_t kMaxRows = 256;  // at a time: enough for full speed, and what a layer needs stays in L2

  const Model* model = nullptr;
  AttentionShape shape;
  ProjectionColumns columns;
  ModelTag cache_tag{};
  size_t block_bytes = 0;
  std::vector<std::vector<float>> slot_biases;  // by layer: SlotBiases()
  size_t slot_bias_stride = 0;
  // Columns k and v of the last layer's projection, [d, 2d]: all that a row without output needs of it.
  std::vector<float> last_key_value;
  std::unique_ptr<const MatrixProduct> project, project_key_value, out;
  std::unique_ptr<const MatrixProduct> ffn_in, ffn_out;  // of a transformer

  // `model` outlives the network.
  static Result<std::unique_ptr<Network>> Make(const Model& model, CachePrecision precision);

  size_t layers() const { return model->layers.size(); }
  size_t window() const { return static_cast<size_t>(model->config.window); }
  size_t ffn_dim() const { return static_cast<size_t>(model->config.ffn_dim); }
  bool is_transformer() const { return model->config.block == Block::kTransformer; }
  bool is_additive() const { return is_transformer() && model->config.attention == Attention::kAdditive; }
  // Whether additive attention's keys are stored as their TanhFactors().
  bool keys_are_factors() const { return is_additive() && shape.precision == CachePrecision::kFp32; }
  size_t LayerOffset(size_t layer) const { return layer * shape.layer_bytes(); }
};

// A thread's memory.
struct Buffers {
  // Where a row of the chunk goes in its ring.
  struct Place {
    size_t slot = 0;   // of the row's own keys and values
    size_t slots = 0;  // in use, the row's own among them
  };

  Buffers(const Network& network, size_t max_rows);

  size_t max_rows = 0;
  AlignedFloats x;               // [rows, d] the residual stream
  AlignedFloats normed;          // [rows, d]
  AlignedFloats z;               // [rows, columns.all] projected rows; or [rows, 2d] k, v; or [rows, 2F] gate, up
  AlignedFloats gated;           // [rows, d] what `out` multiplies; or [rows, F] what `ffn_out` does
  AlignedFloats attended;        // [d]
  AlignedFloats weights;         // [heads, window rounded up]
  std::vector<uint8_t> buckets;  // [rows, bucket_stride]
  size_t bucket_stride = 0;
  std::vector<Place> places;   // [rows]
  std::vector<size_t> wanted;  // rows of the chunk whose output is asked for
  std::unique_ptr<MatrixProduct::Context> project, project_key_value, out, ffn_in, ffn_out;
};

}  // namespace freshet
