#include "ingest/number_text.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

namespace freshet {
namespace {

static_assert(std::endian::native == std::endian::little, "EightDigits() puts the first digit into the lowest byte");

// 10^0 to 10^15, all exact in double.
constexpr double kPowersOfTen[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

// A number as nine digits, of which all behind the first `count` are zero: digits / 10^decimals.
struct Decimal {
  uint32_t digits;
  int decimals;
  int count;
};

constexpr uint32_t kWholePowersOfTen[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

// How many of nine digits can be dropped: the most for which a multiple of that power of ten lies in [least, most].
// Nearly always 0, 1 or 2, told without a branch.
int DigitsToDrop(uint32_t least, uint32_t most) {
  int dropped = static_cast<int>(most / 10 * 10 >= least) + static_cast<int>(most / 100 * 100 >= least);
  if (most / 1000 * 1000 < least) return dropped;
  for (dropped = 3; dropped < 9 && most / kWholePowersOfTen[dropped + 1] * kWholePowersOfTen[dropped + 1] >= least;) {
    ++dropped;
  }
  return dropped;
}

// The shortest decimal between the midpoints to the neighbouring floats. All of 10^-5 <= value < 10^7 in double: nine
// digits of it and of the midpoints are then right to 10^-6 of the last digit, by which the interval is narrowed.
Decimal Shortest(float value) {
  constexpr double kSlack = 1e-6;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const double low = (double{std::bit_cast<float>(bits - 1)} + double{value}) / 2;
  const double high = (double{std::bit_cast<float>(bits + 1)} + double{value}) / 2;
  const int exponent = static_cast<int>(bits >> 23) - 127;
  int decimals = 8 - ((exponent * 1233) >> 12);  // 1233 / 4096 ~ log10(2): at most one too many
  decimals -= static_cast<int>(value * kPowersOfTen[decimals] >= 1e9);
  const double scale = kPowersOfTen[decimals];
  const auto least = static_cast<uint32_t>(static_cast<int64_t>(low * scale + kSlack) + 1);
  const auto most = static_cast<uint32_t>(static_cast<int64_t>(high * scale - kSlack));
  const auto nearest = static_cast<uint32_t>(static_cast<int64_t>(value * scale + 0.5));
  const int dropped = DigitsToDrop(least, most);
  const uint32_t power = kWholePowersOfTen[dropped];
  uint32_t digits = (nearest + power / 2) / power * power;
  digits += digits < least ? power : 0;
  digits -= digits > most ? power : 0;
  if (digits == 1'000'000'000) return {100'000'000, decimals - 1, 1};
  return {digits, decimals, 9 - dropped};
}

// Eight decimal digits of number < 10^8 as text, the first in the lowest byte: halves, quarters, digits side by side.
uint64_t EightDigits(uint32_t number) {
  uint64_t text = number / 10000 | static_cast<uint64_t>(number % 10000) << 32;
  const uint64_t hundreds = (text * 10486 >> 20) & 0x7f0000007f;
  text = (text - hundreds * 100) << 16 | hundreds;
  const uint64_t tens = (text * 103 >> 10) & 0x000f000f000f000f;
  text = (text - tens * 10) << 8 | tens;
  return text + 0x3030303030303030;
}

// Writes all nine digits wherever they go and ends behind those that count.
char* WriteDecimal(const Decimal& number, char* out) {
  const uint64_t first_eight = EightDigits(number.digits / 10);
  const char ninth = static_cast<char>('0' + number.digits % 10);
  const int whole = 9 - number.decimals;  // digits before the point, at most 7
  if (whole <= 0) {
    std::memcpy(out, "0.000000", 8);
    out += 2 - whole;
    std::memcpy(out, &first_eight, 8);
    out[8] = ninth;
    return out + number.count;
  }
  const uint64_t before = (uint64_t{1} << (8 * whole)) - 1;
  const uint64_t with_point = (first_eight & before) | uint64_t{'.'} << (8 * whole) | ((first_eight & ~before) << 8);
  std::memcpy(out, &with_point, 8);
  out[8] = static_cast<char>(first_eight >> 56);
  out[9] = ninth;
  return out + (number.count > whole ? number.count + 1 : whole);
}

}  // namespace

char* WriteInteger(int64_t value, char* out) { return std::to_chars(out, out + kMaxNumberBytes, value).ptr; }

char* WriteFloat(float value, char* out) {
  const float magnitude = std::fabs(value);
  if (magnitude == 0) return std::to_chars(out, out + kMaxNumberBytes, value).ptr;
  if (!(magnitude >= 1e-5f && magnitude < 1e7f)) {
    if (!std::isfinite(value)) return std::copy_n("null", 4, out);  // what JSON has for it
    return std::to_chars(out, out + kMaxNumberBytes, value, std::chars_format::scientific).ptr;
  }
  *out = '-';
  return WriteDecimal(Shortest(magnitude), out + std::signbit(value));
}

}  // namespace freshet
