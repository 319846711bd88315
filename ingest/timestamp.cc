#include "ingest/timestamp.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <string>

namespace freshet {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int64_t MsPerUnitOrOne(TimeUnit unit) { return unit == TimeUnit::kSeconds ? 1000 : 1; }

// A number with an exponent goes through double, which is exact enough for what people write that way.
std::optional<int64_t> ParseExponentForm(std::string_view text, TimeUnit unit) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size()) return std::nullopt;
  if (error != std::errc()) value = std::strtod(std::string(text).c_str(), nullptr);  // tells the huge from the tiny
  value *= static_cast<double>(MsPerUnitOrOne(unit));
  if (unit == TimeUnit::kMicroseconds) value = std::floor(value / 1000);
  if (value < 0) return -1;
  if (value >= 9.2e18) return std::numeric_limits<int64_t>::max();
  return std::llround(value);
}

// Takes exactly `count` digits from the front of `text`.
std::optional<int> TakeDigits(std::string_view& text, size_t count) {
  if (text.size() < count) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!IsDigit(text[i])) return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(count);
  return value;
}

bool Take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

// ".026" and the like, to milliseconds; 0 where there is no fraction.
std::optional<int> TakeFractionMs(std::string_view& text) {
  if (!Take(text, '.') && !Take(text, ',')) return 0;
  int ms = 0;
  size_t digits = 0;
  for (; !text.empty() && IsDigit(text.front()); text.remove_prefix(1), ++digits) {
    if (digits < 3) ms = ms * 10 + (text.front() - '0');
  }
  if (digits == 0) return std::nullopt;
  for (; digits < 3; ++digits) ms *= 10;
  return ms;
}

std::optional<int64_t> TakeTimeOfDayMs(std::string_view& text) {
  const auto hours = TakeDigits(text, 2);
  if (!hours || !Take(text, ':')) return std::nullopt;
  const auto minutes = TakeDigits(text, 2);
  if (!minutes) return std::nullopt;
  std::optional<int> seconds = 0;
  std::optional<int> ms = 0;
  if (Take(text, ':')) {
    seconds = TakeDigits(text, 2);
    if (!seconds) return std::nullopt;
    ms = TakeFractionMs(text);
  }
  if (!ms || *hours > 23 || *minutes > 59 || *seconds > 60) return std::nullopt;  // 60: a leap second
  return ((*hours * 60 + *minutes) * 60 + *seconds) * int64_t{1000} + *ms;
}

// The zone's offset east of UTC: "Z", "+02", "+0200", "+02:00", or nothing.
std::optional<int64_t> TakeZoneMs(std::string_view& text) {
  if (text.empty() || Take(text, 'Z') || Take(text, 'z')) return 0;
  const int sign = text.front() == '-' ? -1 : 1;
  if (!Take(text, '+') && !Take(text, '-')) return std::nullopt;
  const auto hours = TakeDigits(text, 2);
  std::optional<int> minutes = 0;
  if (Take(text, ':') || !text.empty()) minutes = TakeDigits(text, 2);
  if (!hours || !minutes || *hours > 23 || *minutes > 59) return std::nullopt;
  return sign * (*hours * 60 + *minutes) * int64_t{60'000};
}

}  // namespace

std::optional<int64_t> ParseEpochMs(std::string_view text, TimeUnit unit) {
  constexpr int64_t kTooLarge = 1'000'000'000'000'000'000;
  std::string_view rest = text;
  const bool negative = Take(rest, '-');
  if (rest.empty() || !IsDigit(rest.front())) return std::nullopt;
  int64_t value = 0;
  for (; !rest.empty() && IsDigit(rest.front()); rest.remove_prefix(1)) {
    if (value < kTooLarge / 10) {
      value = value * 10 + (rest.front() - '0');
    } else {
      value = kTooLarge;
    }
  }
  int fraction_ms = 0;
  if (!rest.empty() && rest.front() == '.') {
    const auto fraction = TakeFractionMs(rest);
    if (!fraction) return std::nullopt;
    fraction_ms = *fraction;
  }
  if (!rest.empty()) {
    return rest.front() == 'e' || rest.front() == 'E' ? ParseExponentForm(text, unit) : std::nullopt;
  }
  if (negative && text.find_first_not_of("-0.") != std::string_view::npos) return -1;
  if (unit == TimeUnit::kSeconds) {
    return value < kTooLarge / 1000 ? value * 1000 + fraction_ms : std::numeric_limits<int64_t>::max();
  }
  return unit == TimeUnit::kMicroseconds ? value / 1000 : value;
}

std::optional<int64_t> ParseIso8601Ms(std::string_view text) {
  const auto year = TakeDigits(text, 4);
  if (!year || !Take(text, '-')) return std::nullopt;
  const auto month = TakeDigits(text, 2);
  if (!month || !Take(text, '-')) return std::nullopt;
  const auto day = TakeDigits(text, 2);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{*year}, std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  int64_t ms = int64_t{std::chrono::sys_days(date).time_since_epoch().count()} * 86'400'000;
  if (text.empty()) return ms;
  if (!Take(text, 'T') && !Take(text, 't') && !Take(text, ' ')) return std::nullopt;
  const auto time = TakeTimeOfDayMs(text);
  if (!time) return std::nullopt;
  const auto zone = TakeZoneMs(text);
  if (!zone || !text.empty()) return std::nullopt;
  return ms + *time - *zone;
}

std::string FormatTime(int64_t time_ms) {
  const int64_t fraction = ((time_ms % 1000) + 1000) % 1000;
  const auto seconds = static_cast<std::time_t>((time_ms - fraction) / 1000);
  std::tm utc{};
  char text[64], ending[16] = "Z";
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &utc));
  if (fraction != 0) std::snprintf(ending, sizeof(ending), ".%03dZ", static_cast<int>(fraction));
  return std::string(text) + ending;
}

}  // namespace freshet
