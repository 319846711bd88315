#include "inference/sasrec.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

namespace freshet {
namespace {

constexpr size_t kSlots = KeyValueCache::kRowsPerBlock;

size_t RoundUp(size_t count, size_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// One window's way through the layers. A user with fewer than W events has W - n rows of padding before them, which are
// all alike: one row, row 0, stands for them, and counts W - n times where events attend to it.
class Pass {
 public:
  Pass(const SasrecNetwork& network, SasrecBuffers& buffers)
      : network_(network),
        buffers_(buffers),
        model_(*network.model),
        config_(model_.config),
        form_(config_.sasrec),
        d_(network.shape.dim),
        missing_(static_cast<size_t>(config_.window) - buffers.window.size()),
        padded_(missing_ > 0 && form_.padding != Padding::kNone),
        rows_(buffers.window.size() + (padded_ ? 1 : 0)) {}

  void Run(float* user_vector) {
    Embed();
    for (size_t layer = 0; layer < model_.layers.size(); ++layer) {
      // Of the last layer only the newest row's output is wanted.
      const size_t first = layer + 1 == model_.layers.size() ? rows_ - 1 : 0;
      RunLayer(model_.layers[layer], first);
    }
    Normalise(rows_ - 1, model_.norm, model_.norm_bias);
    std::memcpy(user_vector, &buffers_.normed[(rows_ - 1) * d_], d_ * sizeof(float));
  }

 private:
  void Embed();
  void RunLayer(const LayerWeights& layer, size_t first);
  void FeedForward(const LayerWeights& layer, size_t first);
  void StoreKeyValues();
  void Attend(size_t first);
  void Normalise(size_t first, const std::vector<float>& weight, const std::vector<float>& bias);
  void CopyNormed(size_t first) {
    std::memcpy(&buffers_.x[first * d_], &buffers_.normed[first * d_], (rows_ - first) * d_ * sizeof(float));
  }
  // y += x · weight + bias, for rows `first`.. of x [rows, inner] and y [rows, bias.size()].
  void Add(size_t first, const float* x, size_t inner, const MatrixProduct& product, MatrixProduct::Context& context,
           const std::vector<float>& weight, const std::vector<float>& bias, float* y);

  const SasrecNetwork& network_;
  SasrecBuffers& buffers_;
  const Model& model_;
  const ModelConfig& config_;
  const SasrecForm& form_;
  const size_t d_;
  const size_t missing_;  // events before the first one
  const bool padded_;     // they have a row
  const size_t rows_;
};

void Pass::Embed() {
  const std::vector<float>& items = form_.input_embedding ? model_.input_embedding : model_.item_embedding;
  const float scale = form_.scaled_items ? std::sqrt(static_cast<float>(d_)) : 1;
  float* x = buffers_.x.get();
  if (padded_) x = std::fill_n(x, d_, 0.0f);
  for (size_t i = 0; i < buffers_.window.size(); ++i, x += d_) {
    const float* const item = &items[Raw(buffers_.window[i]) * d_];
    const float* const position = &model_.position_embedding[(missing_ + i) * d_];
    for (size_t c = 0; c < d_; ++c) x[c] = scale * item[c] + position[c];
  }
  buffers_.slot_bias[0] = padded_ ? std::log(static_cast<float>(missing_)) : 0;
}

// Rows before `first` only have their keys and values taken; the others' x move on.
void Pass::RunLayer(const LayerWeights& layer, size_t first) {
  float* const x = buffers_.x.get();
  float* const projected = buffers_.projected.get();
  const float* const normed = buffers_.normed.get();
  if (padded_ && form_.padding == Padding::kZero) std::fill_n(x, d_, 0.0f);
  const bool is_pre = form_.norm == Norm::kPre;
  if (form_.norm != Norm::kPost) Normalise(is_pre ? 0 : first, layer.attention_norm, layer.attention_norm_bias);

  std::fill_n(projected, rows_ * 2 * d_, 0.0f);
  Add(0, is_pre ? normed : x, d_, *network_.key_value, *buffers_.key_value, layer.projection, layer.projection_bias,
      projected);
  StoreKeyValues();
  std::fill_n(projected + first * d_, (rows_ - first) * d_, 0.0f);
  Add(first, form_.norm == Norm::kPost ? x : normed, d_, *network_.square, *buffers_.square, layer.query,
      layer.query_bias, projected);
  Attend(first);

  if (form_.norm == Norm::kQuery) CopyNormed(first);
  Add(first, buffers_.attended.get(), d_, *network_.square, *buffers_.square, layer.out, layer.out_bias, x);
  if (form_.norm == Norm::kPost) {
    Normalise(first, layer.attention_norm, layer.attention_norm_bias);
    CopyNormed(first);
  }
  FeedForward(layer, first);
}

void Pass::FeedForward(const LayerWeights& layer, size_t first) {
  const auto width = static_cast<size_t>(config_.ffn_dim);
  float* const x = buffers_.x.get();
  float* const hidden = buffers_.projected.get();
  if (form_.norm != Norm::kPost) Normalise(first, layer.ffn_norm, layer.ffn_norm_bias);
  if (form_.norm == Norm::kQuery) CopyNormed(first);
  std::fill_n(hidden + first * width, (rows_ - first) * width, 0.0f);
  Add(first, form_.norm == Norm::kPost ? x : buffers_.normed.get(), d_, *network_.ffn_in, *buffers_.ffn_in,
      layer.ffn_in, layer.ffn_in_bias, hidden);
  if (form_.relu) {
    for (size_t i = first * width; i < rows_ * width; ++i) hidden[i] = std::max(hidden[i], 0.0f);
  }
  Add(first, hidden, width, *network_.ffn_out, *buffers_.ffn_out, layer.ffn_out, layer.ffn_out_bias, x);
  if (form_.norm != Norm::kPost) return;
  Normalise(first, layer.ffn_norm, layer.ffn_norm_bias);
  CopyNormed(first);
}

void Pass::StoreKeyValues() {
  for (size_t row = 0; row < rows_; ++row) {
    const float* const key = &buffers_.projected[row * 2 * d_];
    StoreKeyValue(network_.shape, key, key + d_, row % kSlots, buffers_.blocks[row / kSlots].get());
  }
}

void Pass::Attend(size_t first) {
  AttentionRow attention;
  attention.blocks = buffers_.blocks.data();
  attention.bias_pos = buffers_.slot_bias.data();  // the same for all heads: a stride of 0
  attention.scale = 1.0f / std::sqrt(static_cast<float>(network_.shape.head_dim()));
  attention.weights = buffers_.weights.get();
  for (size_t row = first; row < rows_; ++row) {
    attention.query = &buffers_.projected[row * d_];
    attention.slots = row + 1;
    attention.out = &buffers_.attended[row * d_];
    SoftmaxAttention(network_.shape, attention);
  }
}

// normed = LN(x) ⊙ weight + bias, for rows `first`..
void Pass::Normalise(size_t first, const std::vector<float>& weight, const std::vector<float>& bias) {
  for (size_t row = first; row < rows_; ++row) {
    float* const normed = &buffers_.normed[row * d_];
    LayerNorm(&buffers_.x[row * d_], d_, static_cast<float>(config_.ln_eps), normed);
    for (size_t c = 0; c < d_; ++c) normed[c] = normed[c] * weight[c] + bias[c];
  }
}

void Pass::Add(size_t first, const float* x, size_t inner, const MatrixProduct& product,
               MatrixProduct::Context& context, const std::vector<float>& weight, const std::vector<float>& bias,
               float* y) {
  for (size_t row = first; row < rows_; row += SasrecNetwork::kMaxRows) {
    const size_t count = std::min(rows_ - row, SasrecNetwork::kMaxRows);
    product.Run(count, x + row * inner, weight.data(), bias.data(), y + row * bias.size(), context);
  }
}

}  // namespace

Result<std::unique_ptr<const SasrecNetwork>> SasrecNetwork::Make(const Model& model) {
  const auto d = static_cast<size_t>(model.config.dim), width = static_cast<size_t>(model.config.ffn_dim);
  auto network = std::make_unique<SasrecNetwork>();
  network->model = &model;
  network->shape = {.dim = d, .heads = static_cast<size_t>(model.config.heads)};
  const auto make = [](size_t inner, size_t columns) {
    return MatrixProduct::Make({.inner = inner, .columns = columns, .max_rows = kMaxRows, .accumulate = true});
  };
  ASSIGN_OR_RETURN(network->square, make(d, d));
  ASSIGN_OR_RETURN(network->key_value, make(d, 2 * d));
  ASSIGN_OR_RETURN(network->ffn_in, make(d, width));
  ASSIGN_OR_RETURN(network->ffn_out, make(width, d));
  return std::unique_ptr<const SasrecNetwork>(std::move(network));
}

SasrecBuffers::SasrecBuffers(const SasrecNetwork& network) {
  const ModelConfig& config = network.model->config;
  const auto most = static_cast<size_t>(config.window), ffn = static_cast<size_t>(config.ffn_dim);
  // A product writes rows up to the next power of two.
  const size_t rows =
      most < SasrecNetwork::kMaxRows ? MatrixProduct::RoundedRows(most) : RoundUp(most, SasrecNetwork::kMaxRows);
  const size_t d = network.shape.dim, slots = RoundUp(most, kSlots);
  window.reserve(most);
  x = AllocateAligned(rows * d + kPad);
  normed = AllocateAligned(rows * d + kPad);
  projected = AllocateAligned(rows * std::max(2 * d, ffn) + kPad);
  attended = AllocateAligned(rows * d + kPad);
  weights = AllocateAligned(network.shape.heads * slots);
  const size_t block_bytes = network.shape.layer_bytes() + kPad * sizeof(float);
  for (size_t i = 0; i < slots / kSlots; ++i) blocks.push_back(AllocateAlignedBytes(block_bytes));
  slot_bias.resize(slots);
  square = network.square->MakeContext();
  key_value = network.key_value->MakeContext();
  ffn_in = network.ffn_in->MakeContext();
  ffn_out = network.ffn_out->MakeContext();
}

void Recompute(const SasrecNetwork& network, SasrecBuffers& buffers, float* user_vector) {
  assert(!buffers.window.empty() && buffers.window.size() <= static_cast<size_t>(network.model->config.window));
  Pass(network, buffers).Run(user_vector);
}

}  // namespace freshet
