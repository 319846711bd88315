#include "ingest/number_text.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

namespace freshet {
namespace {

// 10^0 to 10^15, all exact in double.
constexpr double kPowersOfTen[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

// digits * 10^-decimals.
struct Decimal {
  uint32_t digits;
  int decimals;
};

// The shortest decimal between the midpoints to the neighbouring floats. All of 10^-5 <= value < 10^7 in double: nine
// digits of it and of the midpoints are then right to 10^-6 of the last digit, by which the interval is narrowed.
Decimal Shortest(float value) {
  constexpr double kSlack = 1e-6;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const double low = (double{std::bit_cast<float>(bits - 1)} + double{value}) / 2;
  const double high = (double{std::bit_cast<float>(bits + 1)} + double{value}) / 2;
  const int exponent = static_cast<int>(bits >> 23) - 127;
  int decimals = 8 - ((exponent * 1233) >> 12);  // 1233 / 4096 ~ log10(2): at most one too many
  if (value * kPowersOfTen[decimals] >= 1e9) --decimals;
  const double scale = kPowersOfTen[decimals];
  const auto least = static_cast<uint32_t>(low * scale + kSlack) + 1;
  const auto most = static_cast<uint32_t>(high * scale - kSlack);
  const auto nearest = static_cast<uint32_t>(value * scale + 0.5);
  Decimal shortest{nearest, decimals};
  for (uint32_t power = 10; power <= 100'000'000; power *= 10) {
    const uint32_t rounded = (nearest + power / 2) / power;
    if (rounded * power < least || rounded * power > most) break;
    shortest = {rounded, shortest.decimals - 1};
  }
  return shortest;
}

char* WriteDecimal(Decimal number, char* out) {
  char digits[10];
  const int count = static_cast<int>(std::to_chars(digits, digits + sizeof(digits), number.digits).ptr - digits);
  const int whole = count - number.decimals;  // digits before the point
  if (whole <= 0) {
    std::memcpy(out, "0.00000", 7);
    std::memcpy(out + 2 - whole, digits, static_cast<size_t>(count));
    return out + 2 - whole + count;
  }
  if (number.decimals <= 0) {
    std::memcpy(out, digits, static_cast<size_t>(count));
    std::memset(out + count, '0', static_cast<size_t>(-number.decimals));
    return out + whole;
  }
  std::memcpy(out, digits, static_cast<size_t>(whole));
  out[whole] = '.';
  std::memcpy(out + whole + 1, digits + whole, static_cast<size_t>(number.decimals));
  return out + count + 1;
}

}  // namespace

char* WriteInteger(int64_t value, char* out) { return std::to_chars(out, out + kMaxNumberBytes, value).ptr; }

char* WriteFloat(float value, char* out) {
  const float magnitude = std::fabs(value);
  if (!(magnitude >= 1e-5f && magnitude < 1e7f)) return std::to_chars(out, out + kMaxNumberBytes, value).ptr;
  if (value < 0) *out++ = '-';
  return WriteDecimal(Shortest(magnitude), out);
}

}  // namespace freshet
