#include "inference/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/support/seed.h"

namespace freshet {
namespace {

// Exact scores of dim 1, and in what pieces approximate ones come. Units are powers of two, for exact quotients.
struct Catalogue {
  explicit Catalogue(std::mt19937_64& random) : block_items(kPad * (1 + random() % 40)) {
    constexpr float kBounds[] = {0, 1e-3f, .1f, 3}, kUnits[] = {.25f, 1, 8};
    bound = kBounds[random() % 4];
    unit = kUnits[random() % 3];
    std::normal_distribution<float> normal;
    const bool ties = random() % 2 == 0;
    for (size_t items = 1 + random() % 5000; items > 0; --items) {
      const float score = normal(random);
      exact.push_back(ties ? std::round(2 * score) / 2 : score);
    }
    scales.assign(exact.size(), 1);
  }

  Approximation Means(const float* one) const {
    return {.user_vector = one,
            .table = exact.data(),
            .dim = 1,
            .item_scales = scales.data(),
            .unit = unit,
            .bound = bound};
  }

  // Rows first.. of `items`, each anywhere within the bound; in blocks that lie further apart than they are long.
  std::vector<float> Approximate(size_t first, size_t items, std::mt19937_64& random) const {
    std::uniform_real_distribution<float> error(-.9f * bound, .9f * bound);
    std::vector<float> scores((items / block_items + 1) * stride() + kPad);
    for (size_t i = 0; i < items; ++i) {
      scores[i / block_items * stride() + i % block_items] = exact[first + i] / unit + (bound > 0 ? error(random) : 0);
    }
    return scores;
  }

  size_t stride() const { return block_items + kPad; }

  size_t block_items;
  float bound, unit;
  std::vector<float> exact, scales;
};

std::vector<uint32_t> SortedRows(const Catalogue& catalogue, const std::vector<ItemRow>& excluded, size_t k) {
  std::vector<uint32_t> rows;
  for (uint32_t row = 1; row < catalogue.exact.size(); ++row) {
    if (std::find(excluded.begin(), excluded.end(), ItemRow{row}) == excluded.end()) rows.push_back(row);
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [&](uint32_t a, uint32_t b) { return catalogue.exact[a] > catalogue.exact[b]; });
  rows.resize(std::min(k, rows.size()));
  return rows;
}

TEST(Selection, TakesTheBestByExactScoresWhateverTheApproximateOnesSay) {
  std::mt19937_64 random(TestSeed());
  Selection selection;
  for (int round = 0; round < 400; ++round) {
    const Catalogue catalogue(random);
    const size_t items = catalogue.exact.size(), span_items = catalogue.block_items * (1 + random() % 6);
    std::vector<ItemRow> excluded(random() % 20);
    for (ItemRow& row : excluded) row = ItemRow{static_cast<uint32_t>(random() % items)};
    std::vector<ScoredItem> top(random() % 10 == 0 ? random() % (items + 9) : random() % 120);
    const float one = 1;
    RankRequest request{&one, excluded, top};
    const Approximation means = catalogue.Means(&one);
    selection.Begin(request, (items + span_items - 1) / span_items, &means);
    for (size_t first = 0; first < items; first += span_items) {
      const size_t count = std::min(span_items, items - first);
      std::vector<float> scores = catalogue.Approximate(first, count, random);
      selection.Take({first, count, scores.data(), catalogue.block_items, catalogue.stride()});
    }
    selection.Finish(request);
    const std::vector<uint32_t> expected = SortedRows(catalogue, excluded, top.size());
    ASSERT_EQ(request.found, expected.size()) << "round " << round;
    for (size_t place = 0; place < expected.size(); ++place) {
      ASSERT_EQ(Raw(top[place].row), expected[place]) << "round " << round << ", place " << place;
      ASSERT_EQ(top[place].score, catalogue.exact[expected[place]]);
    }
  }
}

}  // namespace
}  // namespace freshet
