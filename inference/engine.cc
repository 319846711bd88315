#include "inference/engine.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

#include "inference/kernels.h"
#include "inference/matrix_product.h"

namespace freshet {
namespace {

constexpr size_t kSlots = KeyValueCache::kRowsPerBlock;
constexpr size_t kMaxRows = 256;  // at a time: enough for full speed, and what a layer needs of them stays in L2

size_t RoundUp(size_t count, size_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Position biases [heads, stride] such that those of slots 0.. lie in a row, whatever slot is the newest: offset o is
// in slot (newest - o) mod W, so entry W - newest + s is bias_pos[(newest - s) mod W].
size_t SlotBiasStride(const ModelConfig& config) {
  return RoundUp(2 * static_cast<size_t>(config.window), kPad) + kPad;
}

std::vector<float> SlotBiases(const ModelConfig& config, const std::vector<float>& bias_pos) {
  const size_t window = static_cast<size_t>(config.window), stride = SlotBiasStride(config);
  std::vector<float> biases(static_cast<size_t>(config.heads) * stride);
  for (size_t head = 0; head < static_cast<size_t>(config.heads); ++head) {
    for (size_t i = 0; i < 2 * window; ++i) {
      biases[head * stride + i] = bias_pos[head * window + (2 * window - i) % window];
    }
  }
  return biases;
}

// Columns v and k of uvqk [d, 4d], side by side: all that a row without output needs of the last layer.
std::vector<float> ValueKeyColumns(const std::vector<float>& uvqk, size_t d) {
  std::vector<float> columns(d * 2 * d);
  for (size_t row = 0; row < d; ++row) {
    std::copy_n(&uvqk[row * 4 * d + d], d, &columns[row * 2 * d]);
    std::copy_n(&uvqk[row * 4 * d + 3 * d], d, &columns[row * 2 * d + d]);
  }
  return columns;
}

// Where a row of the chunk goes in its ring.
struct Place {
  size_t slot = 0;   // of the row's own keys and values
  size_t slots = 0;  // in use, the row's own among them
};

// What an engine is made of; immutable.
struct Network {
  const Model* model = nullptr;
  AttentionShape shape;
  size_t block_floats = 0;
  std::vector<std::vector<float>> slot_biases;  // by layer
  std::vector<float> last_value_key;            // [d, 2d]
  std::unique_ptr<const MatrixProduct> uvqk_product, value_key_product, out_product;

  size_t layers() const { return model->layers.size(); }
  size_t window() const { return static_cast<size_t>(model->config.window); }
  size_t LayerOffset(size_t layer) const { return layer * 2 * shape.dim * kSlots; }
};

// A thread's memory.
struct Buffers {
  size_t max_rows = 0;
  AlignedFloats x;               // [rows, d] the residual stream
  AlignedFloats normed;          // [rows, d]
  AlignedFloats z;               // [rows, 4d] u, v, q, k; or [rows, 2d] v, k
  AlignedFloats gated;           // [rows, d]
  AlignedFloats attended;        // [d]
  AlignedFloats weights;         // [heads, window rounded up]
  std::vector<uint8_t> buckets;  // [rows, bucket_stride]
  size_t bucket_stride = 0;
  std::vector<Place> places;   // [rows]
  std::vector<size_t> wanted;  // rows of the chunk whose output is asked for
  std::unique_ptr<MatrixProduct::Context> uvqk_context, value_key_context, out_context;
};

// One chunk's way through the layers. Rows go side by side through the products, and in order through the rings: a row
// stores its key and value before it attends, so that several events of one user make an exact causal chunk.
class Pass {
 public:
  Pass(const Network& network, Buffers& buffers, std::span<const StepRow> rows)
      : network_(network), buffers_(buffers), rows_(rows), config_(network.model->config), d_(network.shape.dim) {}

  void Run() {
    Embed();
    TakePlaces();
    const size_t last = network_.layers() - 1;
    for (size_t layer = 0; layer < last; ++layer) RunLayer(layer, false);
    if (buffers_.wanted.empty()) {
      StoreLastKeyValues();
    } else {
      RunLayer(last, true);
      Output();
    }
  }

 private:
  void Embed();
  void TakePlaces();
  void NormaliseRows();
  void RunLayer(size_t layer, bool wanted_only);
  void StoreLastKeyValues();
  void StoreKeyValue(size_t row, size_t layer, const float* key, const float* value);
  void Attend(size_t row, size_t layer, float* gated);
  void PrefetchRing(size_t row, size_t layer);
  void Output();

  const Network& network_;
  Buffers& buffers_;
  const std::span<const StepRow> rows_;
  const ModelConfig& config_;
  const size_t d_;
};

void Pass::Embed() {
  const Model& model = *network_.model;
  const float scale = std::sqrt(static_cast<float>(d_));
  for (size_t row = 0; row < rows_.size(); ++row) {
    const ModelToken& token = rows_[row].token;
    assert(Raw(token.item) < static_cast<uint32_t>(config_.items));
    assert(Raw(token.type) < static_cast<uint32_t>(config_.event_types));
    const float* const item = &model.item_embedding[Raw(token.item) * d_];
    const float* const type = &model.type_embedding[Raw(token.type) * d_];
    float* const x = &buffers_.x[row * d_];
    for (size_t c = 0; c < d_; ++c) x[c] = scale * item[c] + type[c];
  }
}

// Gives each row its slot, in order, and takes down what the layers share: the slots in use and their time buckets.
void Pass::TakePlaces() {
  const size_t window = network_.window();
  buffers_.wanted.clear();
  for (size_t row = 0; row < rows_.size(); ++row) {
    KeyValueCache& cache = *rows_[row].cache;
    assert(cache.events == 0 || cache.model == network_.model->tag);
    const size_t slot = static_cast<size_t>(cache.events) % window;
    if (slot == cache.times_s.size()) {
      if (slot % kSlots == 0) {
        cache.model = network_.model->tag;
        cache.block_floats = network_.block_floats;
        cache.blocks.reserve((window + kSlots - 1) / kSlots);
        cache.blocks.push_back(AllocateAligned(network_.block_floats));
        cache.times_s.reserve(std::min(window, slot + kSlots));
      }
      cache.times_s.push_back(0);
    }
    cache.times_s[slot] = rows_[row].token.time_s;
    ++cache.events;
    buffers_.places[row] = {slot, cache.times_s.size()};
    if (rows_[row].user_vector != nullptr) buffers_.wanted.push_back(row);
    if (!config_.time_bias) continue;
    TimeBuckets(cache.times_s.data(), cache.times_s.size(), rows_[row].token.time_s,
                &buffers_.buckets[row * buffers_.bucket_stride]);
  }
}

void Pass::NormaliseRows() {
  const float eps = static_cast<float>(config_.ln_eps);
  for (size_t row = 0; row < rows_.size(); ++row) LayerNorm(&buffers_.x[row * d_], d_, eps, &buffers_.normed[row * d_]);
}

// With `wanted_only`, rows without output only store their keys and values, and the others' x move together.
void Pass::RunLayer(size_t layer, bool wanted_only) {
  const LayerWeights& weights = network_.model->layers[layer];
  NormaliseRows();
  network_.uvqk_product->Run(rows_.size(), buffers_.normed.get(), weights.uvqk.data(), nullptr, buffers_.z.get(),
                             *buffers_.uvqk_context);
  Silu(buffers_.z.get(), rows_.size() * 4 * d_);
  size_t active = 0;
  for (size_t row = 0; row < rows_.size(); ++row) {
    if (row + 1 < rows_.size() && rows_[row + 1].cache != rows_[row].cache) PrefetchRing(row + 1, layer);
    const float* const z = &buffers_.z[row * 4 * d_];
    StoreKeyValue(row, layer, z + 3 * d_, z + d_);
    if (wanted_only && rows_[row].user_vector == nullptr) continue;
    Attend(row, layer, &buffers_.gated[active * d_]);
    if (active != row) std::memcpy(&buffers_.x[active * d_], &buffers_.x[row * d_], d_ * sizeof(float));
    ++active;
  }
  network_.out_product->Run(active, buffers_.gated.get(), weights.out.data(), weights.out_bias.data(), buffers_.x.get(),
                            *buffers_.out_context);
}

void Pass::StoreLastKeyValues() {
  NormaliseRows();
  network_.value_key_product->Run(rows_.size(), buffers_.normed.get(), network_.last_value_key.data(), nullptr,
                                  buffers_.z.get(), *buffers_.value_key_context);
  Silu(buffers_.z.get(), rows_.size() * 2 * d_);
  for (size_t row = 0; row < rows_.size(); ++row) {
    const float* const z = &buffers_.z[row * 2 * d_];
    StoreKeyValue(row, network_.layers() - 1, z + d_, z);
  }
}

void Pass::StoreKeyValue(size_t row, size_t layer, const float* key, const float* value) {
  const size_t slot = buffers_.places[row].slot;
  float* const keys = rows_[row].cache->blocks[slot / kSlots].get() + network_.LayerOffset(layer);
  float* const values = keys + d_ * kSlots;
  for (size_t c = 0; c < d_; ++c) keys[c * kSlots + slot % kSlots] = key[c];
  std::memcpy(values + slot % kSlots * d_, value, d_ * sizeof(float));
}

void Pass::Attend(size_t row, size_t layer, float* gated) {
  const Place& place = buffers_.places[row];
  const LayerWeights& weights = network_.model->layers[layer];
  const float* const z = &buffers_.z[row * 4 * d_];
  AttentionRow attention;
  attention.query = z + 2 * d_;
  attention.blocks = rows_[row].cache->blocks.data();
  attention.layer_offset = network_.LayerOffset(layer);
  attention.slots = place.slots;
  attention.bias_pos = network_.slot_biases[layer].data() + (network_.window() - place.slot);
  attention.bias_pos_stride = SlotBiasStride(config_);
  if (config_.time_bias) {
    attention.bias_time = weights.bias_time.data();
    attention.buckets = &buffers_.buckets[row * buffers_.bucket_stride];
  }
  attention.inverse_scale = 1.0f / config_.scale();
  attention.weights = buffers_.weights.get();
  attention.out = buffers_.attended.get();
  SiluAttention(network_.shape, attention);
  GatedLayerNorm(z, buffers_.attended.get(), d_, static_cast<float>(config_.ln_eps), gated);
}

// Asks for what Attend() will read of a user that is not in the CPU's caches.
void Pass::PrefetchRing(size_t row, size_t layer) {
  constexpr size_t kLineFloats = 16;
  const size_t floats = 2 * d_ * kSlots;
  for (size_t first = 0; first < buffers_.places[row].slots; first += kSlots) {
    const float* const block = rows_[row].cache->blocks[first / kSlots].get() + network_.LayerOffset(layer);
    for (size_t i = 0; i < floats; i += kLineFloats) __builtin_prefetch(block + i, 0, 2);
  }
}

void Pass::Output() {
  for (size_t i = 0; i < buffers_.wanted.size(); ++i) {
    const float* const x = &buffers_.x[i * d_];
    float* const user_vector = rows_[buffers_.wanted[i]].user_vector;
    if (config_.similarity == Similarity::kDot) {
      LayerNorm(x, d_, static_cast<float>(config_.ln_eps), buffers_.attended.get());
      std::memcpy(user_vector, buffers_.attended.get(), d_ * sizeof(float));
      continue;
    }
    float squares = 0;
    for (size_t c = 0; c < d_; ++c) squares += x[c] * x[c];
    const float factor = 1.0f / std::max(std::sqrt(squares), static_cast<float>(config_.norm_eps));
    for (size_t c = 0; c < d_; ++c) user_vector[c] = x[c] * factor;
  }
}

}  // namespace

struct Engine::Parts : Network {};
struct Engine::Scratch::Parts : Buffers {};

Engine::Scratch::Scratch() : parts_(std::make_unique<Parts>()) {}
Engine::Scratch::~Scratch() = default;
Engine::Engine(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<const Engine>> Engine::Make(const Model& model) {
  const ModelConfig& config = model.config;
  const size_t d = static_cast<size_t>(config.dim);
  auto parts = std::make_unique<Parts>();
  parts->model = &model;
  parts->shape = {.dim = d, .heads = static_cast<size_t>(config.heads)};
  // The attention kernel reads past a last head that is no multiple of its vectors.
  const size_t pad = parts->shape.head_dim() % kPad == 0 ? 0 : kPad;
  parts->block_floats = parts->LayerOffset(parts->layers()) + pad;
  for (const LayerWeights& layer : model.layers) parts->slot_biases.push_back(SlotBiases(config, layer.bias_pos));
  parts->last_value_key = ValueKeyColumns(model.layers.back().uvqk, d);
  ASSIGN_OR_RETURN(parts->uvqk_product, MatrixProduct::Make({.inner = d, .columns = 4 * d, .max_rows = kMaxRows}));
  ASSIGN_OR_RETURN(parts->value_key_product, MatrixProduct::Make({.inner = d, .columns = 2 * d, .max_rows = kMaxRows}));
  ASSIGN_OR_RETURN(parts->out_product,
                   MatrixProduct::Make({.inner = d, .columns = d, .max_rows = kMaxRows, .accumulate = true}));
  return std::unique_ptr<const Engine>(new Engine(std::move(parts)));
}

std::unique_ptr<Engine::Scratch> Engine::MakeScratch(size_t max_rows) const {
  std::unique_ptr<Scratch> scratch(new Scratch());
  Buffers& buffers = *scratch->parts_;
  buffers.max_rows = std::clamp<size_t>(max_rows, 1, kMaxRows);
  const size_t rows = MatrixProduct::RoundedRows(buffers.max_rows), d = parts_->shape.dim;
  const size_t slots = RoundUp(parts_->window(), kSlots);
  buffers.x = AllocateAligned(rows * d + kPad);
  buffers.normed = AllocateAligned(rows * d + kPad);
  buffers.z = AllocateAligned(rows * 4 * d + kPad);
  buffers.gated = AllocateAligned(rows * d + kPad);
  buffers.attended = AllocateAligned(d + kPad);
  buffers.weights = AllocateAligned(parts_->shape.heads * slots);
  buffers.bucket_stride = slots + kPad;
  buffers.buckets.resize(rows * buffers.bucket_stride);
  buffers.places.resize(buffers.max_rows);
  buffers.wanted.reserve(buffers.max_rows);
  buffers.uvqk_context = parts_->uvqk_product->MakeContext();
  buffers.value_key_context = parts_->value_key_product->MakeContext();
  buffers.out_context = parts_->out_product->MakeContext();
  return scratch;
}

void Engine::Step(std::span<const StepRow> rows, Scratch& scratch) const {
  while (!rows.empty()) {
    const size_t count = std::min(rows.size(), scratch.parts_->max_rows);
    Pass(*parts_, *scratch.parts_, rows.first(count)).Run();
    rows = rows.subspan(count);
  }
}

size_t Engine::CacheBytes(int64_t events) const {
  const size_t slots = std::min(static_cast<size_t>(events), parts_->window());
  const size_t blocks = (slots + kSlots - 1) / kSlots;
  return blocks * parts_->block_floats * sizeof(float) + std::min(blocks * kSlots, parts_->window()) * sizeof(int64_t);
}

}  // namespace freshet
