#include "inference/engine.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

#include "inference/kernels.h"
#include "inference/network.h"
#include "inference/sasrec.h"

namespace freshet {
namespace {

constexpr size_t kSlots = Network::kSlots;

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
  void NormaliseRows(size_t rows);
  void RunLayer(size_t layer, bool wanted_only);
  void FeedForward(size_t layer, size_t rows);
  void StoreLastKeyValues();
  void Activate(size_t columns, size_t factors);
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
    assert(cache.events == 0 || cache.model == network_.cache_tag);
    const size_t slot = static_cast<size_t>(cache.events) % window;
    if (slot == cache.times_s.size()) {
      if (slot % kSlots == 0) {
        cache.model = network_.cache_tag;
        cache.block_bytes = network_.block_bytes;
        cache.blocks.reserve((window + kSlots - 1) / kSlots);
        cache.blocks.push_back(AllocateAlignedBytes(network_.block_bytes));
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

void Pass::NormaliseRows(size_t rows) {
  const float eps = static_cast<float>(config_.ln_eps);
  for (size_t row = 0; row < rows; ++row) LayerNorm(&buffers_.x[row * d_], d_, eps, &buffers_.normed[row * d_]);
}

// With `wanted_only`, rows without output only store their keys and values, and the others' x move together.
void Pass::RunLayer(size_t layer, bool wanted_only) {
  const LayerWeights& weights = network_.model->layers[layer];
  const ProjectionColumns& columns = network_.columns;
  NormaliseRows(rows_.size());
  network_.project->Run(rows_.size(), buffers_.normed.get(), weights.projection.data(), nullptr, buffers_.z.get(),
                        *buffers_.project);
  Activate(columns.all, network_.keys_are_factors() ? 2 * d_ : d_);
  size_t active = 0;
  for (size_t row = 0; row < rows_.size(); ++row) {
    if (row + 1 < rows_.size() && rows_[row + 1].cache != rows_[row].cache) PrefetchRing(row + 1, layer);
    const float* const z = &buffers_.z[row * columns.all];
    StoreKeyValue(row, layer, z + columns.key, z + columns.value);
    if (wanted_only && rows_[row].user_vector == nullptr) continue;
    Attend(row, layer, &buffers_.gated[active * d_]);
    if (active != row) std::memcpy(&buffers_.x[active * d_], &buffers_.x[row * d_], d_ * sizeof(float));
    ++active;
  }
  network_.out->Run(active, buffers_.gated.get(), weights.out.data(), weights.out_bias.data(), buffers_.x.get(),
                    *buffers_.out);
  if (network_.is_transformer()) FeedForward(layer, active);
}

void Pass::FeedForward(size_t layer, size_t rows) {
  const LayerWeights& weights = network_.model->layers[layer];
  const size_t width = network_.ffn_dim();
  NormaliseRows(rows);
  network_.ffn_in->Run(rows, buffers_.normed.get(), weights.ffn_in.data(), nullptr, buffers_.z.get(), *buffers_.ffn_in);
  for (size_t row = 0; row < rows; ++row) {
    const float* const gate = &buffers_.z[row * 2 * width];
    GatedSilu(gate, gate + width, width, &buffers_.gated[row * width]);
  }
  network_.ffn_out->Run(rows, buffers_.gated.get(), weights.ffn_out.data(), weights.ffn_out_bias.data(),
                        buffers_.x.get(), *buffers_.ffn_out);
}

void Pass::StoreLastKeyValues() {
  NormaliseRows(rows_.size());
  network_.project_key_value->Run(rows_.size(), buffers_.normed.get(), network_.last_key_value.data(), nullptr,
                                  buffers_.z.get(), *buffers_.project_key_value);
  Activate(2 * d_, network_.keys_are_factors() ? d_ : 0);
  for (size_t row = 0; row < rows_.size(); ++row) {
    const float* const z = &buffers_.z[row * 2 * d_];
    StoreKeyValue(row, network_.layers() - 1, z, z + d_);
  }
}

// What follows the projection of all rows, z [rows, columns]: of HSTU SiLU, everywhere; of additive attention the
// factors of tanh, of the first `factors` columns: queries, and keys where they are stored so.
void Pass::Activate(size_t columns, size_t factors) {
  float* const z = buffers_.z.get();
  if (!network_.is_transformer()) Silu(z, rows_.size() * columns);
  if (!network_.is_additive()) return;
  for (size_t row = 0; row < rows_.size(); ++row) TanhFactors(z + row * columns, factors);
}

void Pass::StoreKeyValue(size_t row, size_t layer, const float* key, const float* value) {
  const size_t slot = buffers_.places[row].slot;
  std::byte* const block = rows_[row].cache->blocks[slot / kSlots].get();
  freshet::StoreKeyValue(network_.shape, key, value, slot % kSlots, block + network_.LayerOffset(layer));
}

void Pass::Attend(size_t row, size_t layer, float* gated) {
  const Buffers::Place& place = buffers_.places[row];
  const LayerWeights& weights = network_.model->layers[layer];
  const float* const z = &buffers_.z[row * network_.columns.all];
  AttentionRow attention;
  attention.query = z + network_.columns.query;
  attention.blocks = rows_[row].cache->blocks.data();
  attention.layer_offset = network_.LayerOffset(layer);
  attention.slots = place.slots;
  attention.bias_pos = network_.slot_biases[layer].data() + (network_.window() - place.slot);
  attention.bias_pos_stride = network_.slot_bias_stride;
  if (config_.time_bias) {
    attention.bias_time = weights.bias_time.data();
    attention.buckets = &buffers_.buckets[row * buffers_.bucket_stride];
  }
  attention.weights = buffers_.weights.get();
  if (!network_.is_transformer()) {
    attention.scale = 1.0f / config_.scale();
    attention.out = buffers_.attended.get();
    SiluAttention(network_.shape, attention);
    GatedLayerNorm(z, buffers_.attended.get(), d_, static_cast<float>(config_.ln_eps), gated);
    return;
  }
  attention.out = gated;
  if (network_.is_additive()) {
    attention.score = weights.score.data();
    AdditiveAttention(network_.shape, attention);
  } else {
    attention.scale = 1.0f / std::sqrt(static_cast<float>(network_.shape.head_dim()));
    SoftmaxAttention(network_.shape, attention);
  }
}

// Asks for what Attend() will read of a user that is not in the CPU's caches.
void Pass::PrefetchRing(size_t row, size_t layer) {
  constexpr size_t kLine = 64;
  for (size_t first = 0; first < buffers_.places[row].slots; first += kSlots) {
    const std::byte* const block = rows_[row].cache->blocks[first / kSlots].get() + network_.LayerOffset(layer);
    for (size_t i = 0; i < network_.shape.layer_bytes(); i += kLine) __builtin_prefetch(block + i, 0, 2);
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

// The step of a model that recomputes: the user's last W items are all it keeps, and of those rows that want an output
// it computes everything.
void StepAnew(const SasrecNetwork& network, SasrecBuffers& buffers, std::span<const StepRow> rows) {
  const auto window = static_cast<size_t>(network.model->config.window);
  for (const StepRow& row : rows) {
    KeyValueCache& cache = *row.cache;
    assert(cache.events == 0 || cache.model == network.model->tag);
    cache.model = network.model->tag;
    const size_t slot = static_cast<size_t>(cache.events) % window;
    if (slot == cache.items.size()) {
      if (slot % kSlots == 0) cache.items.reserve(std::min(window, slot + kSlots));
      cache.items.emplace_back();
    }
    cache.items[slot] = row.token.item;
    ++cache.events;
    if (row.user_vector == nullptr) continue;
    buffers.window.assign(cache.items.begin() + static_cast<ptrdiff_t>(slot) + 1, cache.items.end());
    buffers.window.insert(buffers.window.end(), cache.items.begin(),
                          cache.items.begin() + static_cast<ptrdiff_t>(slot) + 1);
    Recompute(network, buffers, row.user_vector);
  }
}

}  // namespace

// One of the two, by what the model is.
struct Engine::Parts {
  std::unique_ptr<const Network> network;
  std::unique_ptr<const SasrecNetwork> sasrec;
};
struct Engine::Scratch::Parts {
  std::unique_ptr<Buffers> buffers;
  std::unique_ptr<SasrecBuffers> sasrec;
};

Engine::Scratch::Scratch(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Engine::Scratch::~Scratch() = default;
Engine::Engine(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<const Engine>> Engine::Make(const Model& model, CachePrecision precision) {
  auto parts = std::make_unique<Parts>();
  if (model.config.recomputes()) {
    ASSIGN_OR_RETURN(parts->sasrec, SasrecNetwork::Make(model));
  } else {
    ASSIGN_OR_RETURN(parts->network, Network::Make(model, precision));
  }
  return std::unique_ptr<const Engine>(new Engine(std::move(parts)));
}

std::unique_ptr<Engine::Scratch> Engine::MakeScratch(size_t max_rows) const {
  auto parts = std::make_unique<Scratch::Parts>();
  if (parts_->sasrec) {
    parts->sasrec = std::make_unique<SasrecBuffers>(*parts_->sasrec);
  } else {
    parts->buffers = std::make_unique<Buffers>(*parts_->network, max_rows);
  }
  return std::unique_ptr<Scratch>(new Scratch(std::move(parts)));
}

void Engine::Step(std::span<const StepRow> rows, Scratch& scratch) const {
  if (parts_->sasrec) return StepAnew(*parts_->sasrec, *scratch.parts_->sasrec, rows);
  Buffers& buffers = *scratch.parts_->buffers;
  while (!rows.empty()) {
    const size_t count = std::min(rows.size(), buffers.max_rows);
    Pass(*parts_->network, buffers, rows.first(count)).Run();
    rows = rows.subspan(count);
  }
}

ModelTag Engine::cache_tag() const { return parts_->sasrec ? parts_->sasrec->model->tag : parts_->network->cache_tag; }

size_t Engine::CacheBytes(int64_t events) const {
  const bool recomputes = parts_->sasrec != nullptr;
  const auto window = static_cast<size_t>((recomputes ? parts_->sasrec->model : parts_->network->model)->config.window);
  const size_t blocks = (std::min(static_cast<size_t>(events), window) + kSlots - 1) / kSlots;
  const size_t slots = std::min(blocks * kSlots, window);
  if (recomputes) return slots * sizeof(ItemRow);
  return blocks * parts_->network->block_bytes + slots * sizeof(int64_t);
}

}  // namespace freshet
