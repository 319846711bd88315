// Event times: text and epoch milliseconds. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace freshet {

enum class TimeUnit { kSeconds, kMilliseconds, kMicroseconds, kIso8601 };

// 2100-01-01T00:00:00Z: nothing that happens later is an event.
inline constexpr int64_t kEndOfTimeMs = 4'102'444'800'000;

// A decimal number of `unit` (not kIso8601), exactly: "1506826800", "1506826800.026", "1.5068268e9". Fractions of a
// millisecond are dropped; a negative number becomes -1, and one of more than 18 digits some time after kEndOfTimeMs.
// Nothing where `text` is not a number.
std::optional<int64_t> ParseEpochMs(std::string_view text, TimeUnit unit);

// "2017-10-01T03:00:00.026Z", offsets "+02:00", "+0200", "+02", no zone (UTC), a space for the T, minutes or seconds
// left out, or a date alone. Nothing where `text` is something else or no such date exists. Negative before 1970.
std::optional<int64_t> ParseIso8601Ms(std::string_view text);

// "2017-10-10T00:00:00Z", with milliseconds where there are some.
std::string FormatTime(int64_t time_ms);

}  // namespace freshet
