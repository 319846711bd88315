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

// At a time. Larger groups gain nothing in the product; with kSpanBlocks blocks, a group's scores (1 MB) stay in L2.
constexpr size_t kMaxRequests = 64;
constexpr size_t kSpanBlocks = 4;
constexpr size_t kMaxBlockItems = 960;  // oneDNN copies W for widths that are multiples of 512
constexpr float kNever = -std::numeric_limits<float>::infinity();

// The item table as scores need it: E_c, for cosine E_c / max(‖E_c‖, eps) / temperature; in blocks, each [d, items].
struct Catalogue {
  size_t items = 0;
  size_t dim = 0;
  size_t block_items = 0;
  std::vector<AlignedFloats> blocks;
  std::unique_ptr<const MatrixProduct> product;

  size_t spans() const { return (blocks.size() + kSpanBlocks - 1) / kSpanBlocks; }
};

// The best of one request so far.
struct Selection {
  std::vector<RankKey> keys;  // candidates
  size_t found = 0;
  float threshold = kNever;  // only what is above can still get in
  std::vector<uint32_t> excluded;
  size_t next_excluded = 0;
};

struct RankBuffers {
  size_t max_requests = 0;
  AlignedFloats users;   // [requests, d]
  AlignedFloats scores;  // [span blocks, requests, block_items]
  std::vector<Selection> selections;
  std::unique_ptr<MatrixProduct::Context> context;
};

// One user's scores of a span: rows first_row.. of the catalogue, in pieces of block_items.
struct SpanScores {
  size_t first_row = 0;
  size_t items = 0;
  float* scores = nullptr;  // of the first block; the next block's are `block_stride` further on
  size_t block_items = 0;
  size_t block_stride = 0;

  float* At(size_t item) const { return scores + item / block_items * block_stride + item % block_items; }
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
size_t Limit(size_t k) { return k + std::max<size_t>(3 * k, 128); }

void Begin(const RankRequest& request, size_t spans, Selection& selection) {
  const size_t capacity = Limit(request.top.size()) + 2 * kPad;
  if (selection.keys.size() < capacity) selection.keys.resize(capacity);
  selection.found = 0;
  selection.threshold = kNever;
  selection.excluded.resize(request.excluded.size());
  std::transform(request.excluded.begin(), request.excluded.end(), selection.excluded.begin(),
                 [](ItemRow row) { return Raw(row); });
  if (spans > 1) SortAscending(selection.excluded);  // a single span takes them all, in any order
  selection.next_excluded = 0;
}

void Exclude(const SpanScores& span, Selection& selection) {
  const std::vector<uint32_t>& excluded = selection.excluded;
  size_t& next = selection.next_excluded;
  for (; next < excluded.size() && excluded[next] < span.first_row + span.items; ++next) {
    *span.At(excluded[next] - span.first_row) = kNever;
  }
  if (span.first_row == 0) *span.At(0) = kNever;
}

// Best first, at most k. Candidates to come have higher rows, so a tie with the last one kept is lost.
void Cut(size_t k, Selection& selection) {
  SortDescending(std::span(selection.keys.data(), selection.found));
  if (k == 0 || selection.found < k) return;
  selection.found = k;
  selection.threshold = ScoreOf(selection.keys[k - 1]);
}

// A score that somewhat more than k of the span's are likely to be above, judged by a sample of them.
float GuessThreshold(size_t k, const SpanScores& span) {
  constexpr size_t kSample = 256;  // what the sort does in one go, without partitioning
  if (span.items < 2 * kSample) return kNever;
  const double expected = static_cast<double>(k) * kSample / static_cast<double>(span.items);
  const size_t rank = static_cast<size_t>(expected + 2.5 * std::sqrt(expected)) + 1;
  if (rank >= kSample / 2) return kNever;
  uint32_t sample[kSample];
  const size_t vectors = span.items / kPad;
  for (size_t i = 0; i < kSample / kPad; ++i) {
    OrderScores(span.At(i * vectors / (kSample / kPad) * kPad), kPad, sample + i * kPad);
  }
  SortDescending(std::span<uint32_t>(sample));
  return sample[rank] == 0 ? kNever : ScoreOfOrdered(sample[rank]);
}

// Takes in what is above the threshold.
void Scan(size_t k, const SpanScores& span, Selection& selection) {
  for (size_t block = 0; block < span.items; block += span.block_items) {
    const size_t end = std::min(span.items, block + span.block_items);
    for (size_t done = block;;) {
      done += ScanAbove(span.At(block) + (done - block), end - done, static_cast<uint32_t>(span.first_row + done),
                        selection.threshold, Limit(k), selection.keys.data(), selection.found);
      if (done == end) break;
      Cut(k, selection);
    }
  }
}

// Takes a span's scores into the selection. The scores of excluded items are changed.
void Select(size_t k, const SpanScores& span, Selection& selection) {
  Exclude(span, selection);
  if (span.first_row == 0) selection.threshold = GuessThreshold(k, span);
  Scan(k, span, selection);
  if (span.first_row > 0 || selection.found >= k || selection.threshold == kNever) return;
  selection.found = 0;  // the guess was too high
  selection.threshold = kNever;
  Scan(k, span, selection);
}

void Finish(RankRequest& request, Selection& selection) {
  Cut(request.top.size(), selection);
  request.found = selection.found;
  for (size_t i = 0; i < selection.found; ++i) {
    request.top[i] = {ItemRow{RowOf(selection.keys[i])}, ScoreOf(selection.keys[i])};
  }
}

// Calls visit(user, its SpanScores) for each user and span, spans in order.
template <typename Visit>
void ScoreSpans(const Catalogue& catalogue, size_t users, RankBuffers& buffers, Visit visit) {
  const size_t width = catalogue.block_items;
  const size_t block_stride = MatrixProduct::RoundedRows(buffers.max_requests) * width;
  for (size_t first_block = 0; first_block < catalogue.blocks.size(); first_block += kSpanBlocks) {
    const size_t end_block = std::min(first_block + kSpanBlocks, catalogue.blocks.size());
    for (size_t block = first_block; block < end_block; ++block) {
      catalogue.product->Run(users, buffers.users.get(), catalogue.blocks[block].get(), nullptr,
                             &buffers.scores[(block - first_block) * block_stride], *buffers.context);
    }
    const size_t first_row = first_block * width, end_row = std::min(end_block * width, catalogue.items);
    for (size_t user = 0; user < users; ++user) {
      visit(user, SpanScores{first_row, end_row - first_row, &buffers.scores[user * width], width, block_stride});
    }
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
  buffers.scores = AllocateAligned(kSpanBlocks * rows * parts_->block_items + kPad);
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
      Begin(group[i], parts_->spans(), buffers.selections[i]);
    }
    ScoreSpans(*parts_, group.size(), buffers, [&](size_t i, const SpanScores& span) {
      const size_t k = group[i].top.size();
      if (k > 0) Select(k, span, buffers.selections[i]);
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
    ScoreSpans(*parts_, group.size(), buffers, [&](size_t i, const SpanScores& span) {
      float* const row = scores + (done + i) * parts_->items + span.first_row;
      for (size_t item = 0; item < span.items; item += span.block_items) {
        std::memcpy(row + item, span.At(item), std::min(span.block_items, span.items - item) * sizeof(float));
      }
    });
  }
}

}  // namespace freshet
