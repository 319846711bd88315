#include "pipeline/config_values.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace freshet {
namespace {

// Smallest first.
template <size_t N>
using Units = std::array<std::pair<std::string_view, uint64_t>, N>;
constexpr Units<4> kSizeUnits = {{{"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}}};
constexpr Units<4> kDurationUnits = {{{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};

template <size_t N>
std::optional<uint64_t> ParseWithUnit(std::string_view text, const Units<N>& units) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  for (const auto& [name, factor] : units) {
    if (suffix != name) continue;
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / factor) return std::nullopt;
    return number * factor;
  }
  return std::nullopt;
}

template <size_t N>
std::string FormatWithUnit(uint64_t number, const Units<N>& units) {
  size_t unit = units.size() - 1;
  while (unit > 0 && (number == 0 || number % units[unit].second != 0)) --unit;
  return std::to_string(number / units[unit].second) + std::string(units[unit].first);
}

}  // namespace

std::optional<uint64_t> ParseSize(std::string_view text) { return ParseWithUnit(text, kSizeUnits); }
std::string FormatSize(uint64_t bytes) { return FormatWithUnit(bytes, kSizeUnits); }

std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  const auto milliseconds = ParseWithUnit(text, kDurationUnits);
  if (!milliseconds) return std::nullopt;
  return std::chrono::milliseconds(static_cast<int64_t>(*milliseconds));
}
std::string FormatDuration(std::chrono::milliseconds duration) {
  return FormatWithUnit(static_cast<uint64_t>(duration.count()), kDurationUnits);
}

std::optional<int64_t> ParseWhole(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool IsTopicName(std::string_view text) {
  const auto legal = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !text.empty() && text.size() <= 249 && text != "." && text != ".." && std::ranges::all_of(text, legal);
}

bool IsHostAndPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of("[]: ") != std::string_view::npos) return false;
  const auto port = ParseWhole(text.substr(colon + 1));
  return port && *port >= 0 && *port <= 65535;
}

bool IsBrokerList(std::string_view text) {
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view broker = text.substr(0, comma);
    if (!IsHostAndPort(broker) || ParseWhole(broker.substr(broker.rfind(':') + 1)) == 0) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(std::min(text.find_first_not_of(' ', comma + 1), text.size()));
  }
}

bool IsJsonPointer(std::string_view text) {
  if (text.empty() || text.front() != '/') return false;
  for (size_t i = text.find('~'); i != std::string_view::npos; i = text.find('~', i + 1)) {
    if (i + 1 == text.size() || (text[i + 1] != '0' && text[i + 1] != '1')) return false;
  }
  return true;
}

bool IsSecretProperty(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.ends_with("location") || lower.ends_with("keytab") || lower.ends_with("url")) return false;
  static constexpr std::array<std::string_view, 7> kWords = {"password", "passphrase", "secret", "token",
                                                             "key",      "credential", "jaas"};
  return std::ranges::any_of(kWords, [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row.back();
}

}  // namespace freshet
