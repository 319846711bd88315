#include "inference/ranker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/key_value_cache.h"
#include "inference/int8_catalogue.h"
#include "inference/kernels.h"
#include "inference/matrix_product.h"
#include "inference/selection.h"

namespace freshet {
namespace {

// At a time. Larger groups gain nothing in the product; with kSpanBlocks blocks, a group's scores (1 MB) stay in L2.
constexpr size_t kMaxRequests = 64;
constexpr size_t kSpanBlocks = 4;
constexpr size_t kMaxBlockItems = 960;  // oneDNN copies W for widths that are multiples of 512
constexpr size_t kInt8Items = 100000;   // from here on int8 is faster (bench/README.md, Scoring)

// The item table as scores need it: E_c, for cosine E_c / max(‖E_c‖, eps) / temperature; in blocks.
struct Catalogue {
  const Model* model = nullptr;
  size_t items = 0;
  size_t dim = 0;
  size_t block_items = 0;
  size_t block_count = 0;
  // Of float32, blocks [d, items].
  std::vector<AlignedFloats> blocks;
  std::unique_ptr<const MatrixProduct> product;
  // Of int8, beside which a row is scored as ⟨u, E_c⟩ · scale.
  std::unique_ptr<const Int8Catalogue> int8;
  std::vector<float> item_scales;

  size_t spans() const { return (block_count + kSpanBlocks - 1) / kSpanBlocks; }
};

struct RankBuffers {
  size_t max_requests = 0;
  AlignedFloats users;   // [requests, d]
  AlignedFloats scores;  // [span blocks, requests, block_items]
  std::vector<Selection> selections;
  std::vector<uint8_t> codes;  // of users, [requests, d]
  std::vector<Approximation> approximations;
  std::unique_ptr<MatrixProduct::Context> context;
};

// By what an item's embedding is multiplied.
float ItemScale(const ModelConfig& config, const float* item, size_t dim) {
  if (config.similarity == Similarity::kDot) return 1;
  double squares = 0;
  for (size_t c = 0; c < dim; ++c) squares += static_cast<double>(item[c]) * item[c];
  return static_cast<float>(1 / (std::max(std::sqrt(squares), config.norm_eps) * config.temperature));
}

void FillBlocks(const Model& model, Catalogue& catalogue) {
  const size_t d = catalogue.dim, width = catalogue.block_items;
  for (size_t row = 0; row < catalogue.items; ++row) {
    if (row % width == 0) catalogue.blocks.push_back(AllocateAligned(d * width));
    const float* const item = &model.item_embedding[row * d];
    const float scale = ItemScale(model.config, item, d);
    for (size_t c = 0; c < d; ++c) catalogue.blocks.back()[c * width + row % width] = item[c] * scale;
  }
}

Status FillInt8(const Model& model, Catalogue& catalogue) {
  const size_t d = catalogue.dim;
  for (size_t row = 0; row < catalogue.items; ++row) {
    catalogue.item_scales.push_back(ItemScale(model.config, &model.item_embedding[row * d], d));
  }
  const Int8CatalogueShape shape = {d, catalogue.block_items, kMaxRequests};
  ASSIGN_OR_RETURN(catalogue.int8, Int8Catalogue::Make(shape, model.item_embedding, catalogue.item_scales));
  return {};
}

// Calls visit(user, its SpanScores) for each user and span, spans in order.
template <typename Visit>
void ScoreSpans(const Catalogue& catalogue, size_t users, RankBuffers& buffers, Visit visit) {
  const size_t width = catalogue.block_items;
  const size_t block_stride = MatrixProduct::RoundedRows(buffers.max_requests) * width;
  for (size_t first_block = 0; first_block < catalogue.block_count; first_block += kSpanBlocks) {
    const size_t end_block = std::min(first_block + kSpanBlocks, catalogue.block_count);
    for (size_t block = first_block; block < end_block; ++block) {
      float* const scores = &buffers.scores[(block - first_block) * block_stride];
      if (catalogue.int8 != nullptr) {
        catalogue.int8->Score(users, buffers.codes.data(), block, scores, *buffers.context);
      } else {
        catalogue.product->Run(users, buffers.users.get(), catalogue.blocks[block].get(), nullptr, scores,
                               *buffers.context);
      }
    }
    const size_t first_row = first_block * width, end_row = std::min(end_block * width, catalogue.items);
    for (size_t user = 0; user < users; ++user) {
      visit(user, SpanScores{first_row, end_row - first_row, &buffers.scores[user * width], width, block_stride});
    }
  }
}

void TakeUser(const Catalogue& catalogue, size_t index, const float* user_vector, RankBuffers& buffers) {
  if (catalogue.int8 == nullptr) {
    std::memcpy(&buffers.users[index * catalogue.dim], user_vector, catalogue.dim * sizeof(float));
    return;
  }
  const auto reading = catalogue.int8->Quantise(user_vector, &buffers.codes[index * catalogue.dim]);
  buffers.approximations[index] = {.user_vector = user_vector,
                                   .table = catalogue.model->item_embedding.data(),
                                   .dim = catalogue.dim,
                                   .item_scales = catalogue.item_scales.data(),
                                   .unit = reading.unit,
                                   .bound = reading.bound};
}

// Row by row.
void ScoreRows(const Catalogue& catalogue, std::span<const float* const> user_vectors, float* scores) {
  std::vector<RankKey> rows(catalogue.items);
  for (size_t row = 0; row < rows.size(); ++row) rows[row] = MakeRankKey(0, static_cast<uint32_t>(row));
  for (const float* const user_vector : user_vectors) {
    DotRows(user_vector, catalogue.model->item_embedding.data(), catalogue.dim, rows, scores);
    for (size_t row = 0; row < rows.size(); ++row) scores[row] *= catalogue.item_scales[row];
    scores += rows.size();
  }
}

}  // namespace

struct Ranker::Parts : Catalogue {};
struct Ranker::Scratch::Parts : RankBuffers {};

Ranker::Scratch::Scratch() : parts_(std::make_unique<Parts>()) {}
Ranker::Scratch::~Scratch() = default;
Ranker::Ranker(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Ranker::~Ranker() = default;

NumberType Ranker::precision() const { return parts_->int8 != nullptr ? NumberType::kInt8 : NumberType::kFloat32; }

Result<std::unique_ptr<const Ranker>> Ranker::Make(const Model& model, std::optional<NumberType> precision) {
  auto parts = std::make_unique<Parts>();
  parts->model = &model;
  parts->items = static_cast<size_t>(model.config.items);
  parts->dim = static_cast<size_t>(model.config.dim);
  // Blocks of equal size, so that little of the last one is computed in vain.
  const size_t blocks = (parts->items + kMaxBlockItems - 1) / kMaxBlockItems;
  parts->block_items = ((parts->items + blocks - 1) / blocks + kPad - 1) / kPad * kPad;
  parts->block_count = (parts->items + parts->block_items - 1) / parts->block_items;
  const bool wants_int8 =
      precision.value_or(parts->items >= kInt8Items ? NumberType::kInt8 : NumberType::kFloat32) == NumberType::kInt8;
  if (wants_int8 && HasInt8Products() && parts->dim <= Int8Catalogue::kMaxDim) {
    RETURN_IF_ERROR(FillInt8(model, *parts));
    return std::unique_ptr<const Ranker>(new Ranker(std::move(parts)));
  }
  FillBlocks(model, *parts);
  ASSIGN_OR_RETURN(parts->product,
                   MatrixProduct::Make({.inner = parts->dim, .columns = parts->block_items, .max_rows = kMaxRequests}));
  return std::unique_ptr<const Ranker>(new Ranker(std::move(parts)));
}

std::unique_ptr<Ranker::Scratch> Ranker::MakeScratch(size_t max_requests) const {
  std::unique_ptr<Scratch> scratch(new Scratch());
  RankBuffers& buffers = *scratch->parts_;
  buffers.max_requests = std::clamp<size_t>(max_requests, 1, kMaxRequests);
  const size_t rows = MatrixProduct::RoundedRows(buffers.max_requests);
  buffers.users = AllocateAligned(rows * parts_->dim);
  buffers.scores = AllocateAligned(kSpanBlocks * rows * parts_->block_items + kPad);
  buffers.selections.resize(buffers.max_requests);
  buffers.codes.resize(rows * parts_->dim);
  buffers.approximations.resize(buffers.max_requests);
  buffers.context = parts_->int8 != nullptr ? parts_->int8->MakeContext() : parts_->product->MakeContext();
  return scratch;
}

void Ranker::TopK(std::span<RankRequest> requests, Scratch& scratch) const {
  RankBuffers& buffers = *scratch.parts_;
  const bool approximate = parts_->int8 != nullptr;
  while (!requests.empty()) {
    const auto group = requests.first(std::min(requests.size(), buffers.max_requests));
    for (size_t i = 0; i < group.size(); ++i) {
      TakeUser(*parts_, i, group[i].user_vector, buffers);
      buffers.selections[i].Begin(group[i], parts_->spans(), approximate ? &buffers.approximations[i] : nullptr);
    }
    ScoreSpans(*parts_, group.size(), buffers,
               [&](size_t i, const SpanScores& span) { buffers.selections[i].Take(span); });
    for (size_t i = 0; i < group.size(); ++i) buffers.selections[i].Finish(group[i]);
    requests = requests.subspan(group.size());
  }
}

void Ranker::ScoreAll(std::span<const float* const> user_vectors, float* scores, Scratch& scratch) const {
  if (parts_->int8 != nullptr) return ScoreRows(*parts_, user_vectors, scores);
  RankBuffers& buffers = *scratch.parts_;
  for (size_t done = 0; done < user_vectors.size(); done += buffers.max_requests) {
    const auto group = user_vectors.subspan(done, std::min(buffers.max_requests, user_vectors.size() - done));
    for (size_t i = 0; i < group.size(); ++i) TakeUser(*parts_, i, group[i], buffers);
    ScoreSpans(*parts_, group.size(), buffers, [&](size_t i, const SpanScores& span) {
      float* const row = scores + (done + i) * parts_->items + span.first_row;
      for (size_t item = 0; item < span.items; item += span.block_items) {
        std::memcpy(row + item, span.At(item), std::min(span.block_items, span.items - item) * sizeof(float));
      }
    });
  }
}

void Ranker::Score(const float* user_vector, std::span<const ItemRow> rows, float* scores) const {
  const Model& model = *parts_->model;
  std::vector<RankKey> keys;
  for (const ItemRow row : rows) keys.push_back(MakeRankKey(0, Raw(row)));
  DotRows(user_vector, model.item_embedding.data(), parts_->dim, keys, scores);
  for (size_t i = 0; i < rows.size(); ++i) {
    scores[i] *= ItemScale(model.config, &model.item_embedding[Raw(rows[i]) * parts_->dim], parts_->dim);
  }
}

}  // namespace freshet
