#include "inference/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "inference/matrix_product.h"
#include "inference/model.h"
#include "tests/inference/precisions.h"
#include "tests/inference/relative_error.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr double kTolerance = 2e-6;
constexpr size_t kWidths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 128, 200};

std::vector<float> Normal(size_t count, float deviation, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count + kPad);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(LayerNorm, EqualsPlainTwin) {
  std::mt19937_64 random(TestSeed());
  for (const size_t dim : kWidths) {
    for (const float deviation : {1.0f, 1e-4f, 1e3f}) {
      const auto x = Normal(dim, deviation, random), u = Normal(dim, 1, random);
      std::vector<float> y(dim + kPad), expected(dim + kPad);
      LayerNorm(x.data(), dim, 1e-6f, y.data());
      plain::LayerNorm(x.data(), dim, 1e-6f, expected.data());
      EXPECT_LE(RelativeError(y.data(), expected.data(), dim), kTolerance) << dim;
      GatedLayerNorm(u.data(), x.data(), dim, 1e-6f, y.data());
      plain::GatedLayerNorm(u.data(), x.data(), dim, 1e-6f, expected.data());
      EXPECT_LE(RelativeError(y.data(), expected.data(), dim), kTolerance) << dim;
    }
  }
}

TEST(LayerNorm, OfEqualValuesIsZero) {
  const std::vector<float> x(20 + kPad, 5.0f);
  std::vector<float> y(20 + kPad, 1.0f);
  LayerNorm(x.data(), 20, 1e-6f, y.data());
  EXPECT_EQ(std::vector<float>(y.begin(), y.begin() + 20), std::vector<float>(20));
}

TEST(Silu, IsRightToTheLastBitsEverywhere) {
  std::vector<float> x;
  for (double value = -200; value <= 200; value += .0137) x.push_back(static_cast<float>(value));
  for (float value = 1e-30f; value < 1e30f; value *= 3) x.insert(x.end(), {value, -value});
  x.insert(x.end(), {0.0f, -0.0f});
  const size_t count = x.size();
  x.resize(count + kPad);
  std::vector<float> y = x, expected = x;
  Silu(y.data(), count);
  plain::Silu(expected.data(), count);
  for (size_t i = 0; i < count; ++i) {
    // Beyond -80 the true value is too small to matter.
    const double tolerance = x[i] < -80 ? std::abs(x[i]) * 1e-34 : std::abs(expected[i]) * 1e-6;
    ASSERT_NEAR(y[i], expected[i], tolerance) << x[i];
  }
}

TEST(Silu, EqualsPlainTwinForAllCounts) {
  std::mt19937_64 random(TestSeed());
  for (const size_t count : kWidths) {
    auto y = Normal(count, 3, random), expected = y;
    Silu(y.data(), count);
    plain::Silu(expected.data(), count);
    EXPECT_LE(RelativeError(y.data(), expected.data(), count), kTolerance) << count;
  }
}

// A ring of random keys and values for one layer that is not the first.
struct Ring {
  Ring(const AttentionShape& shape, size_t slots, bool keys_are_factors, std::mt19937_64& random)
      : layer_offset(shape.layer_bytes()) {
    for (size_t slot = 0; slot < (slots + 15) / 16 * 16; ++slot) {
      if (slot % 16 == 0) blocks.push_back(AllocateAlignedBytes(2 * layer_offset + kPad * sizeof(float)));
      auto key = Normal(shape.dim, .5f, random);
      const auto value = Normal(shape.dim, .5f, random);
      if (keys_are_factors) plain::TanhFactors(key.data(), shape.dim);
      plain::StoreKeyValue(shape, key.data(), value.data(), slot % 16, blocks.back().get() + layer_offset);
    }
  }
  size_t layer_offset;
  std::vector<AlignedBytes> blocks;
};

using AttentionKernel = void (*)(const AttentionShape&, const AttentionRow&);

// One of each kind of attention, and its twin.
struct AttentionKernels {
  const char* name;
  AttentionKernel fast, plain;
  float scale;
  bool is_additive = false;
};

constexpr AttentionKernels kAttentionKernels[] = {{"Silu", SiluAttention, plain::SiluAttention, .02f},
                                                  {"Softmax", SoftmaxAttention, plain::SoftmaxAttention, .25f},
                                                  {"Additive", AdditiveAttention, plain::AdditiveAttention, 1, true}};

class AttentionTest : public testing::TestWithParam<std::tuple<AttentionKernels, CachePrecision>> {
 protected:
  const AttentionKernels& kernels() const { return std::get<0>(GetParam()); }
  CachePrecision precision() const { return std::get<1>(GetParam()); }

  // The relative error of one row over `slots` random keys and values.
  double Error(const AttentionShape& shape, size_t slots, std::mt19937_64& random) {
    const Ring ring(shape, slots, kernels().is_additive && precision() == CachePrecision::kFp32, random);
    auto query = Normal(shape.dim, 1, random);
    if (kernels().is_additive) plain::TanhFactors(query.data(), shape.dim);
    const size_t stride = (slots + 15) / 16 * 16 + kPad;
    const auto bias = Normal(shape.heads * stride, .1f, random), bias_time = Normal(shape.heads * 129, .1f, random);
    const auto score = Normal(shape.dim, 1, random);
    std::vector<uint8_t> buckets(stride + kPad);
    for (uint8_t& bucket : buckets) bucket = static_cast<uint8_t>(random() % 129);
    std::vector<float> weights(shape.heads * stride), out(shape.dim + kPad), expected(shape.dim + kPad);
    AttentionRow row;
    row.query = query.data(), row.blocks = ring.blocks.data(), row.layer_offset = ring.layer_offset;
    row.slots = slots, row.bias_pos = bias.data(), row.bias_pos_stride = stride;
    if (random() % 4 != 0) row.bias_time = bias_time.data();
    row.buckets = buckets.data(), row.scale = kernels().scale, row.score = score.data();
    row.weights = weights.data(), row.out = out.data();
    kernels().fast(shape, row);
    row.out = expected.data();
    kernels().plain(shape, row);
    out[shape.dim] = expected[shape.dim] = .01f;  // terms that cancel may leave nothing to relate errors to
    return RelativeError(out.data(), expected.data(), shape.dim + 1);
  }
};

TEST_P(AttentionTest, EqualsPlainTwinForAllShapes) {
  std::mt19937_64 random(TestSeed());
  double worst = 0;
  for (const size_t heads : {1, 2, 3, 4}) {
    for (const size_t head_dim : {1, 2, 3, 5, 8, 13, 16, 17, 24, 32, 40, 64, 100}) {
      for (const size_t slots : {1, 2, 15, 16, 17, 31, 33, 50, 64, 65, 100, 128, 200}) {
        const double error = Error({heads * head_dim, heads, precision()}, slots, random);
        ASSERT_LE(error, 1e-5) << heads << " heads of " << head_dim << ", " << slots << " slots";
        worst = std::max(worst, error);
      }
    }
  }
  std::cout << "worst relative error " << worst << std::endl;
}

INSTANTIATE_TEST_SUITE_P(All, AttentionTest,
                         testing::Combine(testing::ValuesIn(kAttentionKernels), testing::ValuesIn(kPrecisions)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + PrecisionName(std::get<1>(test.param));
                         });

// Scores of +-1e4 and more, where exp alone would be infinite or all zero.
TEST(SoftmaxAttention, IsSafeForLargeScores) {
  std::mt19937_64 random(TestSeed());
  const AttentionShape shape = {16, 1};
  for (const float sign : {1.0f, -1.0f}) {
    const Ring ring(shape, 20, false, random);
    const std::vector<float> query(shape.dim + kPad), bias_time(129);
    std::vector<float> bias(64, sign * 3e4f), weights(64), out(shape.dim + kPad), expected(shape.dim + kPad);
    bias[7] += 2, bias[19] += 1, bias[20] = 9e4f;  // the last is of no slot in use
    AttentionRow row;
    row.query = query.data(), row.blocks = ring.blocks.data(), row.layer_offset = ring.layer_offset, row.slots = 20;
    row.bias_pos = bias.data(), row.weights = weights.data(), row.out = out.data();
    SoftmaxAttention(shape, row);
    row.out = expected.data();
    plain::SoftmaxAttention(shape, row);
    EXPECT_LE(RelativeError(out.data(), expected.data(), shape.dim), 1e-5);
  }
}

// Against tanh itself, not its factors: what one slot weighs beside another whose tanh is -1 shows its score.
TEST(AdditiveAttention, IsTanhUnlessBothFactorsAreOutOfBounds) {
  const AttentionShape shape = {1, 1};
  const float score = 3;
  for (float q = -50; q < 30; q += 1.75f) {
    for (float k = -60; k <= 60; k += .37f) {
      if (q < -34 && k > 34) continue;
      std::vector<float> query(1 + kPad, q), weights(16), out(1 + kPad), bias(32);
      std::vector<AlignedBytes> blocks;
      blocks.push_back(AllocateAlignedBytes((32 + kPad) * sizeof(float)));
      float* const keys = reinterpret_cast<float*>(blocks[0].get());
      keys[0] = k, keys[1] = -60;
      keys[16] = 1;  // the first slot's value; the second's is 0
      TanhFactors(query.data(), 1);
      TanhFactors(keys, 2);
      AttentionRow row;
      row.query = query.data(), row.blocks = blocks.data(), row.slots = 2, row.bias_pos = bias.data();
      row.score = &score, row.weights = weights.data(), row.out = out.data();
      AdditiveAttention(shape, row);
      const double expected = 1 / (1 + std::exp(score * (-1 - std::tanh(static_cast<double>(q) + k))));
      ASSERT_NEAR(out[0], expected, 2e-6 * expected) << q << " + " << k;
    }
  }
}

TEST(TanhFactors, EqualPlainTwinAndTouchNothingPastTheirCount) {
  std::mt19937_64 random(TestSeed());
  for (const size_t count : kWidths) {
    for (const float deviation : {.3f, 20.0f}) {
      auto y = Normal(count, deviation, random), expected = y;
      TanhFactors(y.data(), count);
      plain::TanhFactors(expected.data(), count);
      for (size_t i = 0; i < count; ++i) ASSERT_NEAR(y[i], expected[i], 1e-6 * expected[i]);
      EXPECT_TRUE(std::equal(y.begin() + static_cast<std::ptrdiff_t>(count), y.end(),
                             expected.begin() + static_cast<std::ptrdiff_t>(count)));
    }
  }
}

TEST(GatedSilu, EqualsPlainTwinForAllCounts) {
  std::mt19937_64 random(TestSeed());
  for (const size_t count : kWidths) {
    const auto gate = Normal(count, 3, random), up = Normal(count, 1, random);
    std::vector<float> y(count + kPad), expected(count + kPad);
    GatedSilu(gate.data(), up.data(), count, y.data());
    plain::GatedSilu(gate.data(), up.data(), count, expected.data());
    EXPECT_LE(RelativeError(y.data(), expected.data(), count), kTolerance) << count;
  }
}

TEST(RankKey, OrdersByScoreThenLowerRow) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float ascending[] = {-infinity, -1e30f, -1, -1e-40f, 0, 1e-40f, 1, 1e30f, infinity};
  for (size_t i = 0; i < std::size(ascending); ++i) {
    const RankKey key = MakeRankKey(ascending[i], 7);
    EXPECT_EQ(ScoreOf(key), ascending[i]);
    EXPECT_EQ(RowOf(key), 7u);
    EXPECT_GT(key, MakeRankKey(ascending[i], 8));
    if (i > 0) {
      EXPECT_GT(key, MakeRankKey(ascending[i - 1], 0));
    }
  }
  EXPECT_EQ(MakeRankKey(-0.0f, 3), MakeRankKey(0.0f, 3));
}

TEST(ScanAbove, EqualsPlainTwin) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 300; ++round) {
    const size_t count = 1 + random() % 300, limit = 1 + random() % 100;
    auto scores = Normal(count, 1, random);
    for (float& score : scores) {
      if (random() % 10 == 0) score = std::numeric_limits<float>::quiet_NaN();
      if (random() % 10 == 0) score = -std::numeric_limits<float>::infinity();
      if (random() % 10 == 0) score = random() % 2 == 0 ? 0.0f : -0.0f;
    }
    const float threshold = random() % 3 == 0 ? -std::numeric_limits<float>::infinity() : scores[random() % count];
    std::vector<RankKey> keys(limit + 2 * kPad), expected(limit + 2 * kPad);
    size_t found = random() % limit, expected_found = found;
    const size_t start = found;
    EXPECT_EQ(ScanAbove(scores.data(), count, 1000, threshold, limit, keys.data(), found),
              plain::ScanAbove(scores.data(), count, 1000, threshold, limit, expected.data(), expected_found));
    ASSERT_EQ(found, expected_found);
    for (size_t i = start; i < found; ++i) ASSERT_EQ(keys[i], expected[i]) << "key " << i;
  }
}

TEST(OrderScores, EqualsPlainTwinAndPutsNaNLast) {
  std::mt19937_64 random(TestSeed());
  auto scores = Normal(100, 1, random);
  scores[3] = std::numeric_limits<float>::quiet_NaN();
  scores[4] = -0.0f;
  std::vector<uint32_t> ordered(100 + kPad), expected(100 + kPad);
  OrderScores(scores.data(), 100, ordered.data());
  plain::OrderScores(scores.data(), 100, expected.data());
  EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + 100, ordered.begin()));
  EXPECT_EQ(ordered[3], 0u);
}

TEST(Sort, OrdersKeysAndRows) {
  std::mt19937_64 random(TestSeed());
  for (const size_t count : {0, 1, 2, 100, 257, 1000}) {
    std::vector<RankKey> keys(count);
    for (RankKey& key : keys) key = random();
    SortDescending(std::span(keys));
    EXPECT_TRUE(std::is_sorted(keys.rbegin(), keys.rend()));
    std::vector<uint32_t> rows(count);
    for (uint32_t& row : rows) row = static_cast<uint32_t>(random());
    SortAscending(rows);
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  }
}

TEST(MatrixProduct, EqualsThreeLoopsForEveryNumberOfRows) {
  std::mt19937_64 random(TestSeed());
  for (const bool accumulate : {false, true}) {
    for (const auto& [inner, columns] : {std::pair<size_t, size_t>{1, 1}, {3, 5}, {16, 64}, {50, 17}, {64, 256}}) {
      const auto product =
          MatrixProduct::Make({.inner = inner, .columns = columns, .max_rows = 40, .accumulate = accumulate}).value();
      const auto context = product->MakeContext();
      const auto weights = Normal(inner * columns, 1, random), bias = Normal(columns, 1, random);
      for (size_t rows = 1; rows <= 40; ++rows) {
        const auto x = Normal(64 * inner, 1, random);
        auto y = Normal(64 * columns, 1, random), expected = y;
        for (size_t row = 0; row < rows; ++row) {
          for (size_t c = 0; c < columns; ++c) {
            double sum = accumulate ? static_cast<double>(expected[row * columns + c]) + bias[c] : 0;
            for (size_t i = 0; i < inner; ++i)
              sum += static_cast<double>(x[row * inner + i]) * weights[i * columns + c];
            expected[row * columns + c] = static_cast<float>(sum);
          }
        }
        product->Run(rows, x.data(), weights.data(), accumulate ? bias.data() : nullptr, y.data(), *context);
        ASSERT_LE(RelativeError(y.data(), expected.data(), rows * columns), kTolerance) << rows << " rows";
      }
    }
  }
}

// The largest magnitudes too: sums of 8-bit products must not saturate.
TEST(MatrixProduct, OfEightBitsIsExactForEveryNumberOfRows) {
  if (!HasInt8Products()) GTEST_SKIP() << "this CPU (or DNNL_MAX_CPU_ISA) has no such products";
  std::mt19937_64 random(TestSeed());
  for (const auto& [inner, columns] : {std::pair<size_t, size_t>{1, 16}, {3, 48}, {64, 960}, {512, 32}}) {
    const auto product =
        MatrixProduct::Make({.inner = inner, .columns = columns, .max_rows = 40, .int8 = true}).value();
    const auto context = product->MakeContext();
    std::vector<int8_t> weights(inner * columns);
    std::vector<float> bias(columns);
    std::vector<uint8_t> x(64 * inner);
    for (int8_t& code : weights) code = static_cast<int8_t>(random() % 2 == 0 ? 127 : random() % 255 - 127);
    for (float& value : bias) value = static_cast<float>(random() % 1000);
    for (uint8_t& code : x) code = static_cast<uint8_t>(random() % 2 == 0 ? 255 : random() % 256);
    const auto packed = product->PackInt8(weights.data()).value();
    std::vector<float> y(64 * columns);
    for (const size_t rows : {1, 2, 3, 5, 16, 37, 40}) {
      product->RunInt8(rows, x.data(), packed, bias.data(), y.data(), *context);
      for (size_t i = 0; i < rows * columns; ++i) {
        int sum = 0;
        for (size_t k = 0; k < inner; ++k) sum += x[i / columns * inner + k] * weights[k * columns + i % columns];
        ASSERT_EQ(y[i], static_cast<float>(sum) + bias[i % columns]) << inner << " inner, " << rows << " rows";
      }
    }
  }
}

TEST(DotRows, EqualsPlainTwin) {
  std::mt19937_64 random(TestSeed());
  for (const size_t dim : kWidths) {
    const auto x = Normal(dim, 1, random);
    std::vector<float> table = Normal(20 * dim, 1, random);
    table.resize(20 * dim);  // nothing may be read past its end
    std::vector<RankKey> keys;
    for (size_t i = 0; i < 33; ++i) keys.push_back(MakeRankKey(0, static_cast<uint32_t>(random() % 20)));
    std::vector<float> products(33), expected(33);
    DotRows(x.data(), table.data(), dim, keys, products.data());
    plain::DotRows(x.data(), table.data(), dim, keys, expected.data());
    EXPECT_LE(RelativeError(products.data(), expected.data(), 33), kTolerance) << dim;
  }
}

}  // namespace
}  // namespace freshet
