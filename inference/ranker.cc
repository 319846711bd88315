#include "inference/ranker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/key_value_cache.h"
#include "inference/kernels.h"
#include "inference/matrix_product.h"

namespace freshet {
namespace {

constexpr size_t kMaxRequests = 64;  // at a time: with a block's items, their scores stay in L2
constexpr size_t kMaxBlockItems = 1024;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// The item table as scores need it: E_c, for cosine E_c / max(‖E_c‖, eps) / temperature; in blocks, each [d, items].
struct Catalogue {
  size_t items = 0;
  size_t dim = 0;
  size_t block_items = 0;
  std::vector<AlignedFloats> blocks;
  std::unique_ptr<const MatrixProduct> product;
};

struct Selection {
  std::vector<RankKey> keys;
  size_t found = 0;
  float threshold = kNever;  // below every candidate still to come
  std::vector<uint32_t> excluded;
  size_t next_excluded = 0;
};

struct RankBuffers {
  size_t max_requests = 0;
  AlignedFloats users;   // [requests, d]
  AlignedFloats scores;  // [requests, block_items]
  std::vector<Selection> selections;
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

// Candidates in a request's buffer at which it is cut back to its k best.
size_t Limit(size_t k) { return k + std::max<size_t>(k, 128); }

void Begin(const RankRequest& request, Selection& selection) {
  const size_t capacity = Limit(request.top.size()) + 2 * kPad;
  if (selection.keys.size() < capacity) selection.keys.resize(capacity);
  selection.found = 0;
  selection.threshold = kNever;
  selection.excluded.resize(request.excluded.size());
  std::transform(request.excluded.begin(), request.excluded.end(), selection.excluded.begin(),
                 [](ItemRow row) { return Raw(row); });
  SortAscending(selection.excluded);
  selection.next_excluded = 0;
}

// Best first, at most k. Candidates to come have higher rows, so a tie with the last one kept is lost.
void Cut(size_t k, Selection& selection) {
  SortDescending({selection.keys.data(), selection.found});
  if (selection.found < k) return;
  selection.found = k;
  selection.threshold = ScoreOf(selection.keys[k - 1]);
}

// Takes a block's scores [items], rows first_row.., into the selection. `scores` are changed.
void Select(size_t k, size_t first_row, size_t items, float* scores, Selection& selection) {
  const std::vector<uint32_t>& excluded = selection.excluded;
  size_t& next = selection.next_excluded;
  for (; next < excluded.size() && excluded[next] < first_row + items; ++next) {
    scores[excluded[next] - first_row] = kNever;
  }
  if (first_row == 0) scores[0] = kNever;
  const size_t limit = Limit(k);
  for (size_t done = 0;;) {
    done += ScanAbove(scores + done, items - done, static_cast<uint32_t>(first_row + done), selection.threshold, limit,
                      selection.keys.data(), selection.found);
    if (done == items) return;
    Cut(k, selection);
  }
}

void Finish(RankRequest& request, Selection& selection) {
  Cut(request.top.size(), selection);
  request.found = selection.found;
  for (size_t i = 0; i < selection.found; ++i) {
    request.top[i] = {ItemRow{RowOf(selection.keys[i])}, ScoreOf(selection.keys[i])};
  }
}

// Calls visit(first_row, items, scores [users, block_items]) for each block of the catalogue.
template <typename Visit>
void ScoreBlocks(const Catalogue& catalogue, size_t users, RankBuffers& buffers, Visit visit) {
  for (size_t b = 0; b < catalogue.blocks.size(); ++b) {
    const size_t first_row = b * catalogue.block_items;
    catalogue.product->Run(users, buffers.users.get(), catalogue.blocks[b].get(), nullptr, buffers.scores.get(),
                           *buffers.context);
    visit(first_row, std::min(catalogue.block_items, catalogue.items - first_row), buffers.scores.get());
  }
}

}  // namespace

struct Ranker::Parts : Catalogue {};
struct Ranker::Scratch::Parts : RankBuffers {};

Ranker::Scratch::Scratch() : parts_(std::make_unique<Parts>()) {}
Ranker::Scratch::~Scratch() = default;
Ranker::Ranker(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Ranker::~Ranker() = default;

Result<std::unique_ptr<const Ranker>> Ranker::Make(const Model& model) {
  auto parts = std::make_unique<Parts>();
  parts->items = static_cast<size_t>(model.config.items);
  parts->dim = static_cast<size_t>(model.config.dim);
  // Blocks of equal size, so that little of the last one is computed in vain.
  const size_t blocks = (parts->items + kMaxBlockItems - 1) / kMaxBlockItems;
  parts->block_items = ((parts->items + blocks - 1) / blocks + kPad - 1) / kPad * kPad;
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
  buffers.scores = AllocateAligned(rows * parts_->block_items + kPad);
  buffers.selections.resize(buffers.max_requests);
  buffers.context = parts_->product->MakeContext();
  return scratch;
}

void Ranker::TopK(std::span<RankRequest> requests, Scratch& scratch) const {
  RankBuffers& buffers = *scratch.parts_;
  while (!requests.empty()) {
    const auto group = requests.first(std::min(requests.size(), buffers.max_requests));
    for (size_t i = 0; i < group.size(); ++i) {
      std::memcpy(&buffers.users[i * parts_->dim], group[i].user_vector, parts_->dim * sizeof(float));
      Begin(group[i], buffers.selections[i]);
    }
    ScoreBlocks(*parts_, group.size(), buffers, [&](size_t first_row, size_t items, float* scores) {
      for (size_t i = 0; i < group.size(); ++i) {
        const size_t k = group[i].top.size();
        if (k > 0) Select(k, first_row, items, scores + i * parts_->block_items, buffers.selections[i]);
      }
    });
    for (size_t i = 0; i < group.size(); ++i) Finish(group[i], buffers.selections[i]);
    requests = requests.subspan(group.size());
  }
}

void Ranker::ScoreAll(std::span<const float* const> user_vectors, float* scores, Scratch& scratch) const {
  RankBuffers& buffers = *scratch.parts_;
  for (size_t done = 0; done < user_vectors.size(); done += buffers.max_requests) {
    const auto group = user_vectors.subspan(done, std::min(buffers.max_requests, user_vectors.size() - done));
    for (size_t i = 0; i < group.size(); ++i) {
      std::memcpy(&buffers.users[i * parts_->dim], group[i], parts_->dim * sizeof(float));
    }
    ScoreBlocks(*parts_, group.size(), buffers, [&](size_t first_row, size_t items, const float* block) {
      for (size_t i = 0; i < group.size(); ++i) {
        std::memcpy(scores + (done + i) * parts_->items + first_row, block + i * parts_->block_items,
                    items * sizeof(float));
      }
    });
  }
}

}  // namespace freshet
