#include "inference/network.h"

#include <algorithm>

namespace freshet {
namespace {

size_t RoundUp(size_t count, size_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Position biases [heads, stride] such that those of slots 0.. lie in a row, whatever slot is the newest: offset o is
// in slot (newest - o) mod W, so entry W - newest + s is bias_pos[(newest - s) mod W].
std::vector<float> SlotBiases(const ModelConfig& config, const std::vector<float>& bias_pos, size_t stride) {
  const size_t window = static_cast<size_t>(config.window);
  std::vector<float> biases(static_cast<size_t>(config.heads) * stride);
  for (size_t head = 0; head < static_cast<size_t>(config.heads); ++head) {
    for (size_t i = 0; i < 2 * window; ++i) {
      biases[head * stride + i] = bias_pos[head * window + (2 * window - i) % window];
    }
  }
  return biases;
}

std::vector<float> KeyValueColumns(const std::vector<float>& projection, size_t d, const ProjectionColumns& columns) {
  std::vector<float> key_value(d * 2 * d);
  for (size_t row = 0; row < d; ++row) {
    std::copy_n(&projection[row * columns.all + columns.key], d, &key_value[row * 2 * d]);
    std::copy_n(&projection[row * columns.all + columns.value], d, &key_value[row * 2 * d + d]);
  }
  return key_value;
}

// Another one for each precision; fp32's is the model's.
ModelTag CacheTag(ModelTag model, CachePrecision precision) {
  const uint64_t mixed = Raw(model) ^ static_cast<uint64_t>(precision) * 0x9E3779B97F4A7C15u;
  return ModelTag{mixed == 0 ? 1 : mixed};  // 0 is "none"
}

}  // namespace

Result<std::unique_ptr<Network>> Network::Make(const Model& model, CachePrecision precision) {
  const ModelConfig& config = model.config;
  const size_t d = static_cast<size_t>(config.dim);
  auto network = std::make_unique<Network>();
  network->model = &model;
  network->shape = {.dim = d, .heads = static_cast<size_t>(config.heads), .precision = precision};
  network->cache_tag = CacheTag(model.tag, precision);
  network->columns = ProjectionColumns::Of(config);
  // The attention kernel reads past a last head that is no multiple of its vectors.
  const size_t pad = network->shape.head_dim() % kPad == 0 ? 0 : kPad * sizeof(float);
  network->block_bytes = network->LayerOffset(network->layers()) + pad;
  network->slot_bias_stride = RoundUp(2 * network->window(), kPad) + kPad;
  for (const LayerWeights& layer : model.layers) {
    network->slot_biases.push_back(SlotBiases(config, layer.bias_pos, network->slot_bias_stride));
  }
  network->last_key_value = KeyValueColumns(model.layers.back().projection, d, network->columns);
  const auto make = [](size_t inner, size_t width, bool accumulate) {
    return MatrixProduct::Make({.inner = inner, .columns = width, .max_rows = kMaxRows, .accumulate = accumulate});
  };
  ASSIGN_OR_RETURN(network->project, make(d, network->columns.all, false));
  ASSIGN_OR_RETURN(network->project_key_value, make(d, 2 * d, false));
  ASSIGN_OR_RETURN(network->out, make(d, d, true));
  if (!network->is_transformer()) return network;
  ASSIGN_OR_RETURN(network->ffn_in, make(d, 2 * network->ffn_dim(), false));
  ASSIGN_OR_RETURN(network->ffn_out, make(network->ffn_dim(), d, true));
  return network;
}

Buffers::Buffers(const Network& network, size_t most_rows)
    : max_rows(std::clamp<size_t>(most_rows, 1, Network::kMaxRows)) {
  const size_t rows = MatrixProduct::RoundedRows(max_rows), d = network.shape.dim, ffn = network.ffn_dim();
  const size_t slots = RoundUp(network.window(), Network::kSlots);
  x = AllocateAligned(rows * d + kPad);
  normed = AllocateAligned(rows * d + kPad);
  z = AllocateAligned(rows * std::max(network.columns.all, 2 * ffn) + kPad);
  gated = AllocateAligned(rows * std::max(d, ffn) + kPad);
  attended = AllocateAligned(d + kPad);
  weights = AllocateAligned(network.shape.heads * slots);
  bucket_stride = slots + kPad;
  buckets.resize(rows * bucket_stride);
  places.resize(max_rows);
  wanted.reserve(max_rows);
  project = network.project->MakeContext();
  project_key_value = network.project_key_value->MakeContext();
  out = network.out->MakeContext();
  if (!network.is_transformer()) return;
  ffn_in = network.ffn_in->MakeContext();
  ffn_out = network.ffn_out->MakeContext();
}

}  // namespace freshet
