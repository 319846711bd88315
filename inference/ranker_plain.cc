#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "inference/ranker.h"

namespace freshet {
namespace {

// Scores of all items for one user.
std::vector<ScoredItem> ScoreItems(const Model& model, const float* user_vector) {
  const size_t d = static_cast<size_t>(model.config.dim);
  const bool cosine = model.config.similarity == Similarity::kCosine;
  std::vector<ScoredItem> items;
  for (uint32_t row = 0; row < static_cast<uint32_t>(model.config.items); ++row) {
    const float* const item = &model.item_embedding[row * d];
    double product = 0, squares = 0;
    for (size_t c = 0; c < d; ++c) {
      product += static_cast<double>(user_vector[c]) * item[c];
      squares += static_cast<double>(item[c]) * item[c];
    }
    if (cosine) product /= std::max(std::sqrt(squares), model.config.norm_eps) * model.config.temperature;
    items.push_back({ItemRow{row}, static_cast<float>(product)});
  }
  return items;
}

}  // namespace

void TopKPlain(const Model& model, std::span<RankRequest> requests) {
  for (RankRequest& request : requests) {
    std::set<ItemRow> excluded(request.excluded.begin(), request.excluded.end());
    excluded.insert(kUnknownItem);
    std::vector<ScoredItem> items = ScoreItems(model, request.user_vector);
    std::erase_if(items, [&](const ScoredItem& item) {
      return excluded.contains(item.row) || !(item.score > -std::numeric_limits<float>::infinity());
    });
    std::stable_sort(items.begin(), items.end(),
                     [](const ScoredItem& a, const ScoredItem& b) { return a.score > b.score; });
    request.found = std::min(request.top.size(), items.size());
    std::copy_n(items.begin(), request.found, request.top.begin());
  }
}

}  // namespace freshet
