#include "inference/cached_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "inference/kernels.h"
#include "tests/inference/precisions.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// A number of any size, and now and then one that is hard to round.
float AnyNumber(std::mt19937_64& random) {
  const float sign = random() % 2 == 0 ? 1.0f : -1.0f;
  const int exponent = static_cast<int>(random() % 50) - 30;
  const auto below = [&](uint64_t bound) { return static_cast<float>(random() % bound); };
  switch (random() % 6) {
    case 0:
      return sign * 0;
    case 1:
      return sign * std::ldexp(below(4096), exponent);  // ties of fp16, the subnormal ones among them
    case 2:
      return sign * (below(5000) + 63'000);  // about the largest of fp16
    case 3:
      return sign * std::ldexp(1.0f, -static_cast<int>(random() % 140));
    default:
      return sign * std::ldexp(1 + below(1 << 23) / (1 << 23), exponent);
  }
}

std::vector<float> AnyRow(size_t dim, std::mt19937_64& random) {
  std::vector<float> row(dim + kPad);
  const bool is_zero = random() % 8 == 0;
  for (float& number : row) number = is_zero ? 0 : AnyNumber(random);
  return row;
}

TEST(StoreKeyValue, EqualsPlainTwinByteForByte) {
  std::mt19937_64 random(TestSeed());
  for (const CachePrecision precision : kPrecisions) {
    for (const size_t heads : {1, 2, 3, 4}) {
      for (const size_t head_dim : {1, 2, 3, 5, 8, 13, 16, 17, 24, 32, 40, 64, 100}) {
        const AttentionShape shape{heads * head_dim, heads, precision};
        std::vector<std::byte> layer(shape.layer_bytes(), std::byte{0x5A}), expected = layer;
        for (int row = 0; row < 40; ++row) {
          const size_t slot = random() % 16;
          const auto key = AnyRow(shape.dim, random), value = AnyRow(shape.dim, random);
          StoreKeyValue(shape, key.data(), value.data(), slot, layer.data());
          plain::StoreKeyValue(shape, key.data(), value.data(), slot, expected.data());
          ASSERT_EQ(layer, expected) << PrecisionName(precision) << ", " << heads << " heads of " << head_dim;
        }
      }
    }
  }
}

// Largest difference that storing makes, by what it may be.
TEST(StoreKeyValue, RoundsToTheNearest) {
  std::mt19937_64 random(TestSeed());
  for (const CachePrecision precision : kPrecisions) {
    const AttentionShape shape{24, 3, precision};
    std::vector<std::byte> layer(shape.layer_bytes());
    for (int row = 0; row < 1000; ++row) {
      const auto key = AnyRow(shape.dim, random), value = AnyRow(shape.dim, random);
      std::vector<float> stored_key(shape.dim), stored_value(shape.dim);
      StoreKeyValue(shape, key.data(), value.data(), 7, layer.data());
      plain::LoadKeyValue(shape, layer.data(), 7, stored_key.data(), stored_value.data());
      for (const auto& [x, stored] : {std::pair(&key, &stored_key), std::pair(&value, &stored_value)}) {
        for (size_t c = 0; c < shape.dim; ++c) {
          double largest = 0;
          for (size_t i = c / 8 * 8; i < c / 8 * 8 + 8; ++i) largest = std::max<double>(largest, std::abs((*x)[i]));
          const double magnitude = std::abs((*x)[c]);
          double bound = 0;
          if (precision == CachePrecision::kFp16) bound = std::max(magnitude * 0x1p-11, 0x1p-25);
          if (precision == CachePrecision::kFp16 && magnitude > 65504) bound = magnitude - 65504;
          if (precision == CachePrecision::kInt8) bound = largest / 254 * (1 + 1e-5) + kLeastInt8Row;
          ASSERT_LE(std::abs((*stored)[c] - (*x)[c]), bound) << PrecisionName(precision) << " " << (*x)[c];
        }
      }
    }
  }
}

TEST(StoreKeyValue, HalfIsBinary16) {
  const AttentionShape shape{2, 1, CachePrecision::kFp16};
  const std::pair<float, uint16_t> known[] = {
      {0.0f, 0x0000},           {-0.0f, 0x8000},        {1.0f, 0x3C00},         {-2.0f, 0xC000},
      {65504.0f, 0x7BFF},       {65519.0f, 0x7BFF},     {1e9f, 0x7BFF},         {-1e9f, 0xFBFF},
      {0x1p-14f, 0x0400},       {0x1p-24f, 0x0001},     {0x1p-25f, 0x0000},     {0x1.8p-24f, 0x0002},
      {0x1.ffcp-15f, 0x0400},   {0x1.ff8p-15f, 0x03FF}, {1 + 0x1p-11f, 0x3C00}, {1 + 0x1.8p-10f, 0x3C02},
      {0.333251953125f, 0x3555}};
  for (const auto& [number, bits] : known) {
    const std::vector<float> row(2 + kPad, number);
    std::vector<std::byte> layer(shape.layer_bytes());
    StoreKeyValue(shape, row.data(), row.data(), 0, layer.data());
    uint16_t stored;
    std::memcpy(&stored, layer.data(), sizeof stored);
    EXPECT_EQ(stored, bits) << number;
  }
}

// Every finite number of 16 bits is read as what it is, by the kernels and by their twins.
TEST(SiluAttention, ReadsEveryHalf) {
  const AttentionShape shape{1, 1, CachePrecision::kFp16};
  std::vector<AlignedBytes> blocks;
  blocks.push_back(AllocateAlignedBytes(shape.layer_bytes() + kPad * sizeof(float)));
  const std::vector<float> query(1 + kPad), bias(32, 2.0f);
  std::vector<float> weights(16), out(1 + kPad);
  AttentionRow row;
  row.query = query.data(), row.blocks = blocks.data(), row.slots = 1, row.bias_pos = bias.data();
  row.weights = weights.data(), row.out = out.data();
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7C00) == 0x7C00) continue;  // infinite, or no number
    const auto half = static_cast<uint16_t>(bits);
    std::memcpy(blocks[0].get() + shape.values_offset(), &half, sizeof half);
    SiluAttention(shape, row);
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 0x3FF);
    const double magnitude = std::ldexp(fraction + (exponent == 0 ? 0 : 1024), std::max(exponent, 1) - 25);
    const double number = (bits & 0x8000) != 0 ? -magnitude : magnitude;
    const double weight = 2 / (1 + std::exp(-2.0));  // SiLU(2)
    ASSERT_NEAR(out[0], weight * number, magnitude * 1e-6) << bits;
    float key, value;
    plain::LoadKeyValue(shape, blocks[0].get(), 0, &key, &value);
    ASSERT_EQ(value, number) << bits;
  }
}

}  // namespace
}  // namespace freshet
