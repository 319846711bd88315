#include "ingest/number_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "tests/support/seed.h"

namespace freshet {
namespace {

std::string Text(float value) {
  char text[kMaxNumberBytes];
  return {text, WriteFloat(value, text)};
}

size_t SignificantDigits(std::string text) {
  text.resize(std::min(text.find('e'), text.size()));
  std::erase_if(text, [](char c) { return c < '0' || c > '9'; });
  text.erase(0, text.find_first_not_of('0'));
  while (text.ends_with('0')) text.pop_back();
  return text.size();
}

int texts_too_long = 0;  // by a digit

// Reads the same float, with no more digits than the standard library needs.
void Check(float value) {
  const std::string text = Text(value);
  float back = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), back);
  ASSERT_EQ(error, std::errc()) << text;
  ASSERT_EQ(end, text.data() + text.size()) << text;
  ASSERT_EQ(std::bit_cast<uint32_t>(back), std::bit_cast<uint32_t>(value)) << text;
  ASSERT_EQ(static_cast<float>(std::stod(text)), value) << text << ": by way of double, as most JSON readers go";
  char shortest[64];
  const auto by_library = std::to_chars(shortest, shortest + sizeof(shortest), value, std::chars_format::scientific);
  // One digit more where the library uses a decimal right between two floats.
  const size_t least = SignificantDigits({shortest, by_library.ptr});
  ASSERT_LE(SignificantDigits(text), least + 1) << text;
  texts_too_long += SignificantDigits(text) > least;
}

TEST(WriteFloat, Examples) {
  EXPECT_EQ(Text(0.8312f), "0.8312");
  EXPECT_EQ(Text(-0.2f), "-0.2");
  EXPECT_EQ(Text(1.0f), "1");
  EXPECT_EQ(Text(0.0f), "0");
  EXPECT_EQ(Text(100.0f), "100");
  EXPECT_EQ(Text(1234567.0f), "1234567");
  EXPECT_EQ(Text(16777216.0f), "1.6777216e+07");
  EXPECT_EQ(Text(0.00001f), "0.00001");
  EXPECT_EQ(Text(12.56084347f), "12.560843");
}

TEST(WriteFloat, WhatIsNotFiniteIsNull) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    char text[kMaxNumberBytes];
    EXPECT_EQ(std::string(text, WriteFloat(value, text)), "null");
  }
}

TEST(WriteFloat, RandomScores) {
  std::mt19937_64 random(TestSeed());
  std::uniform_real_distribution<float> logarithm(-12, 17);
  for (int i = 0; i < 200'000; ++i) {
    ASSERT_NO_FATAL_FAILURE(Check((i % 2 == 0 ? 1.0f : -1.0f) * std::exp(logarithm(random))));
  }
  EXPECT_LE(texts_too_long, 3);
}

TEST(WriteFloat, RandomBits) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  for (int i = 0; i < 100'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(value) && std::fpclassify(value) != FP_SUBNORMAL) {
      ASSERT_NO_FATAL_FAILURE(Check(value));
    }
  }
}

TEST(WriteFloat, PowersOfTwoTheirNeighboursAndTheEdges) {
  for (int exponent = -30; exponent < 30; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    for (const float value : {power, std::nextafter(power, 0.0f), std::nextafter(power, 1e30f)}) {
      ASSERT_NO_FATAL_FAILURE(Check(value));
    }
  }
  for (const float value : {1e-5f, std::nextafter(1e-5f, 0.0f), 1e7f, std::nextafter(1e7f, 0.0f), 0.1f, 0.3f, 9.999999f,
                            -0.0f, std::numeric_limits<float>::max(), std::numeric_limits<float>::min()}) {
    ASSERT_NO_FATAL_FAILURE(Check(value));
  }
}

TEST(WriteInteger, TheEdges) {
  char text[kMaxNumberBytes];
  EXPECT_EQ(std::string(text, WriteInteger(std::numeric_limits<int64_t>::min(), text)), "-9223372036854775808");
  EXPECT_EQ(std::string(text, WriteInteger(0, text)), "0");
}

}  // namespace
}  // namespace freshet
