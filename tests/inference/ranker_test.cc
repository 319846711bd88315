#include "inference/ranker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "inference/matrix_product.h"
#include "tests/inference/model_files.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// A model of integer weights: dot products are exact, so that fast and plain scores are equal, ties and all.
std::unique_ptr<Model> IntegerModel(int items, int dim, std::mt19937_64& random) {
  ModelConfig config = SmallConfig();
  config.items = items;
  config.dim = dim;
  config.heads = 1;
  config.similarity = Similarity::kDot;
  auto model = std::make_unique<Model>(*RandomModel(config, random()));
  for (float& value : model->item_embedding) value = static_cast<float>(static_cast<int>(random() % 7) - 3);
  return model;
}

struct Requests {
  Requests(const Model& model, size_t count, std::mt19937_64& random, bool integers) {
    const size_t d = static_cast<size_t>(model.config.dim), items = static_cast<size_t>(model.config.items);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < count; ++i) {
      auto& vector = vectors.emplace_back(d);
      for (float& value : vector) {
        value = integers ? static_cast<float>(static_cast<int>(random() % 5) - 2) : normal(random);
      }
      auto& rows = excluded.emplace_back(random() % 3 == 0 ? 0 : random() % (items + 3));
      for (ItemRow& row : rows) row = ItemRow{static_cast<uint32_t>(random() % items)};
      const size_t k = random() % 5 == 0 ? random() % (2 * items) : 1 + random() % 100;
      fast_top.emplace_back(k);
      plain_top.emplace_back(k);
    }
    for (size_t i = 0; i < count; ++i) {
      fast.push_back({vectors[i].data(), excluded[i], fast_top[i]});
      plain.push_back({vectors[i].data(), excluded[i], plain_top[i]});
    }
  }

  std::vector<std::vector<float>> vectors;
  std::vector<std::vector<ItemRow>> excluded;
  std::vector<std::vector<ScoredItem>> fast_top, plain_top;
  std::vector<RankRequest> fast, plain;
};

void ExpectEqualFound(const Requests& requests) {
  for (size_t i = 0; i < requests.fast.size(); ++i) {
    ASSERT_EQ(requests.fast[i].found, requests.plain[i].found) << "request " << i;
    for (size_t place = 0; place < requests.fast[i].found; ++place) {
      ASSERT_EQ(requests.fast_top[i][place].row, requests.plain_top[i][place].row)
          << "request " << i << " at " << place;
      ASSERT_EQ(requests.fast_top[i][place].score, requests.plain_top[i][place].score);
    }
  }
}

// Rankers of every precision that this CPU has.
std::vector<std::unique_ptr<const Ranker>> Rankers(const Model& model) {
  std::vector<std::unique_ptr<const Ranker>> rankers;
  rankers.push_back(Ranker::Make(model, NumberType::kFloat32).value());
  if (HasInt8Products()) rankers.push_back(Ranker::Make(model, NumberType::kInt8).value());
  return rankers;
}

// Few distinct scores: nearly everything is a tie.
TEST(Ranker, EqualsPlainTwinWithTiesAndExclusions) {
  std::mt19937_64 random(TestSeed());
  for (const int items : {1, 2, 15, 16, 17, 511, 512, 959, 960, 961, 3416, 3840, 3841, 9000}) {
    for (const int dim : {1, 3, 16, 50}) {
      const auto model = IntegerModel(items, dim, random);
      for (const auto& ranker : Rankers(*model)) {
        const auto scratch = ranker->MakeScratch(1 + random() % 80);
        Requests requests(*model, 1 + random() % 20, random, true);
        ranker->TopK(requests.fast, *scratch);
        TopKPlain(*model, requests.plain);
        ExpectEqualFound(requests);
        if (HasFatalFailure()) FAIL() << items << " items, dim " << dim << NumberTypeName(ranker->precision());
      }
    }
  }
}

TEST(Ranker, CosineScoresEqualPlainTwin) {
  std::mt19937_64 random(TestSeed());
  ModelConfig config = SmallConfig();
  config.items = 3416;
  config.dim = 64;
  const auto model = RandomModel(config, random());
  for (const auto& ranker : Rankers(*model)) {
    const auto scratch = ranker->MakeScratch(64);
    Requests requests(*model, 100, random, false);
    ranker->TopK(requests.fast, *scratch);
    TopKPlain(*model, requests.plain);
    for (size_t i = 0; i < 100; ++i) {
      ASSERT_EQ(requests.fast[i].found, requests.plain[i].found);
      for (size_t place = 0; place < requests.fast[i].found; ++place) {
        ASSERT_NEAR(requests.fast_top[i][place].score, requests.plain_top[i][place].score, 1e-3);
      }
    }
  }
}

// Rows that share their parts with others, and some that are the same row.
TEST(Ranker, ItemsStoredAsCodesAreScoredAsAnyOther) {
  std::mt19937_64 random(TestSeed());
  ModelConfig config = SmallConfig();
  config.items = 3000;
  config.dim = 32;
  config.similarity = Similarity::kDot;
  for (const auto& [parts, centroids] : {std::pair<size_t, size_t>{8, 256}, {4, 3}}) {
    Model model = *RandomModelWithCodes(config, random(), parts, centroids);
    for (float& value : model.item_codes->centroids) value = std::round(value * 30);
    model.item_embedding = DecodeProduct(*model.item_codes);
    for (const auto& ranker : Rankers(model)) {
      const auto scratch = ranker->MakeScratch(64);
      Requests requests(model, 30, random, true);
      ranker->TopK(requests.fast, *scratch);
      TopKPlain(model, requests.plain);
      ExpectEqualFound(requests);
    }
  }
}

// What codes tell worst: rows whose sizes differ by orders of magnitude, some users that are nothing.
TEST(Ranker, Int8LosesNoItemOfUnequalRows) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 20; ++round) {
    const auto model = IntegerModel(5000, 1 + static_cast<int>(random() % 200), random);
    const auto d = static_cast<size_t>(model->config.dim);
    for (size_t row = 0; row < 5000; ++row) {
      const float size = static_cast<float>(uint64_t{1} << random() % (1 + static_cast<unsigned>(round)));
      for (size_t c = 0; c < d; ++c) model->item_embedding[row * d + c] *= size;
    }
    for (const auto& ranker : Rankers(*model)) {
      const auto scratch = ranker->MakeScratch(16);
      Requests requests(*model, 16, random, true);
      std::fill(requests.vectors[3].begin(), requests.vectors[3].end(), 0.0f);
      ranker->TopK(requests.fast, *scratch);
      TopKPlain(*model, requests.plain);
      ExpectEqualFound(requests);
      if (HasFatalFailure()) FAIL() << "round " << round << " " << NumberTypeName(ranker->precision());
    }
  }
}

TEST(Ranker, SaysWhatItComputesWith) {
  std::mt19937_64 random(TestSeed());
  const auto wide = IntegerModel(10, 513, random), narrow = IntegerModel(10, 512, random);
  const NumberType best = HasInt8Products() ? NumberType::kInt8 : NumberType::kFloat32;
  EXPECT_EQ(Ranker::Make(*narrow, NumberType::kInt8).value()->precision(), best);
  EXPECT_EQ(Ranker::Make(*wide, NumberType::kInt8).value()->precision(), NumberType::kFloat32);
  EXPECT_EQ(Ranker::Make(*narrow, NumberType::kFloat32).value()->precision(), NumberType::kFloat32);
  EXPECT_EQ(Ranker::Make(*narrow).value()->precision(), NumberType::kFloat32);
  EXPECT_EQ(Ranker::Make(*IntegerModel(100'000, 2, random)).value()->precision(), best);
}

// The guess at a threshold fails where the sampled scores are the best ones; the answer must not.
TEST(Ranker, EqualsPlainTwinOnSortedCatalogues) {
  std::mt19937_64 random(TestSeed());
  for (const bool rising : {false, true}) {
    for (const int items : {700, 3416, 12000}) {
      auto model = IntegerModel(items, 1, random);
      for (int row = 0; row < items; ++row) {
        const bool sampled = row / 16 % 2 == 0;
        model->item_embedding[static_cast<size_t>(row)] =
            static_cast<float>((rising ? row : items - row) + (sampled && row % 32 < 8 ? 100'000 : 0));
      }
      for (const auto& ranker : Rankers(*model)) {
        const auto scratch = ranker->MakeScratch(8);
        Requests requests(*model, 30, random, true);
        ranker->TopK(requests.fast, *scratch);
        TopKPlain(*model, requests.plain);
        ExpectEqualFound(requests);
      }
    }
  }
}

TEST(Ranker, TakesBatchesOfEverySizeAlike) {
  std::mt19937_64 random(TestSeed());
  const auto model = IntegerModel(2000, 32, random);
  Requests requests(*model, 200, random, true);
  TopKPlain(*model, requests.plain);
  for (const auto& ranker : Rankers(*model)) {
    for (const size_t batch : {1, 2, 3, 7, 33, 64, 200}) {
      const auto scratch = ranker->MakeScratch(batch);
      for (size_t i = 0; i < 200; i += batch) {
        ranker->TopK(std::span(requests.fast).subspan(i, std::min(batch, 200 - i)), *scratch);
      }
      ExpectEqualFound(requests);
    }
  }
}

TEST(Ranker, NeverAnswersWhatIsNotANumber) {
  std::mt19937_64 random(TestSeed());
  for (const float strange : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const auto model = IntegerModel(3416, 8, random);
    for (const auto& ranker : Rankers(*model)) {
      const auto scratch = ranker->MakeScratch(4);
      const std::vector<float> vector(8, strange);
      std::vector<ScoredItem> top(10);
      RankRequest request = {vector.data(), {}, top};
      ranker->TopK({&request, 1}, *scratch);
      for (size_t i = 0; i < request.found; ++i) EXPECT_FALSE(std::isnan(top[i].score));
    }
  }
}

TEST(Ranker, KOfZeroFindsNothing) {
  std::mt19937_64 random(TestSeed());
  const auto model = IntegerModel(100, 4, random);
  const auto ranker = Ranker::Make(*model).value();
  const auto scratch = ranker->MakeScratch(1);
  const std::vector<float> vector(4, 1);
  RankRequest request = {vector.data(), {}, {}, 99};
  ranker->TopK({&request, 1}, *scratch);
  EXPECT_EQ(request.found, 0u);
}

TEST(Ranker, ScoreAllGivesEveryRowsScore) {
  std::mt19937_64 random(TestSeed());
  for (const int items : {1, 100, 4000}) {
    const auto model = IntegerModel(items, 5, random);
    Requests requests(*model, 8, random, true);
    std::vector<const float*> vectors;
    for (const auto& vector : requests.vectors) vectors.push_back(vector.data());
    for (const auto& ranker : Rankers(*model)) {
      std::vector<float> scores(8 * static_cast<size_t>(items));
      ranker->ScoreAll(vectors, scores.data(), *ranker->MakeScratch(3));
      for (size_t i = 0; i < scores.size(); ++i) {
        const size_t row = i % static_cast<size_t>(items), user = i / static_cast<size_t>(items);
        float expected = 0;
        for (size_t c = 0; c < 5; ++c) expected += vectors[user][c] * model->item_embedding[row * 5 + c];
        ASSERT_EQ(scores[i], expected) << i;
      }
    }
  }
}

TEST(Ranker, ScoresOfSomeRowsAreThoseOfAll) {
  std::mt19937_64 random(TestSeed());
  for (const Similarity similarity : {Similarity::kDot, Similarity::kCosine}) {
    for (const NumberType type : {NumberType::kFloat32, NumberType::kInt8}) {
      ModelConfig config = SmallConfig();
      config.similarity = similarity;
      const auto model = RandomModel(config, random());
      const auto ranker = Ranker::Make(*model, type).value();
      const auto scratch = ranker->MakeScratch(1);
      std::vector<float> vector(static_cast<size_t>(config.dim));
      for (float& value : vector) value = std::normal_distribution<float>()(random);
      const float* const user = vector.data();
      std::vector<float> all(static_cast<size_t>(config.items));
      ranker->ScoreAll(std::span(&user, 1), all.data(), *scratch);
      const std::vector<ItemRow> rows = {ItemRow{3}, ItemRow{1}, ItemRow{3},
                                         ItemRow{static_cast<uint32_t>(config.items - 1)}};
      std::vector<float> some(rows.size());
      ranker->Score(user, rows, some.data());
      for (size_t i = 0; i < rows.size(); ++i) {
        const float expected = all[Raw(rows[i])];
        EXPECT_NEAR(some[i], expected, 1e-5 * std::max(1.0F, std::abs(expected))) << i;
      }
      ranker->Score(user, {}, nullptr);
    }
  }
}

}  // namespace
}  // namespace freshet
