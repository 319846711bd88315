#include "ingest/json_scan.h"

#include <cstring>

namespace freshet {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Behind the string whose opening quote is at `at`; the end of the text where it is not closed.
size_t SkipString(std::string_view json, size_t at) {
  for (++at; at < json.size() && json[at] != '"'; ++at) {
    if (json[at] == '\\') ++at;
  }
  return at < json.size() ? at + 1 : json.size();
}

// Behind the value that begins at `at`.
size_t SkipValue(std::string_view json, size_t at) {
  int depth = 0;
  do {
    switch (json[at]) {
      case '"':
        at = SkipString(json, at);
        continue;
      case '{':
      case '[':
        ++depth;
        break;
      case '}':
      case ']':
        --depth;
        break;
      default:
        break;
    }
    ++at;
  } while (at < json.size() && (depth > 0 || (json[at] != ',' && json[at] != '}' && json[at] != ']')));
  return at;
}

size_t SkipSpace(std::string_view json, size_t at) {
  while (at < json.size() && IsSpace(json[at])) ++at;
  return at;
}

}  // namespace

std::string_view NumberText(std::string_view json, std::span<const uint32_t> path) {
  size_t at = SkipSpace(json, 0);
  for (const uint32_t child : path) {
    const bool object = json[at] == '{';
    at = SkipSpace(json, at + 1);
    for (uint32_t i = 0;; ++i) {
      if (object) at = SkipSpace(json, SkipSpace(json, SkipString(json, at)) + 1);  // key, colon
      if (i == child) break;
      at = SkipSpace(json, SkipSpace(json, SkipValue(json, at)) + 1);  // value, comma
    }
  }
  const size_t end = json.find_first_not_of("+-.0123456789eE", at);
  return json.substr(at, end == std::string_view::npos ? end : end - at);
}

bool MaskLongIntegers(char* json, size_t size) {
  constexpr size_t kLong = 19;
  const std::string_view text(json, size);
  bool masked = false;
  for (size_t at = 0; at < size;) {
    if (json[at] == '"') {
      at = SkipString(text, at);
    } else if (IsDigit(json[at])) {
      size_t end = at;
      while (end < size && IsDigit(json[end])) ++end;
      const bool whole =
          (at == 0 || json[at - 1] != '.') && (end == size || (json[end] != '.' && (json[end] | 32) != 'e'));
      const bool exponent = at > 0 && ((json[at - 1] | 32) == 'e' || json[at - 1] == '+');
      if (end - at >= kLong && whole && !exponent && json[at] != '0') {
        std::memset(json + at, ' ', end - at);
        json[at] = '0';
        masked = true;
      }
      at = end;
    } else {
      ++at;
    }
  }
  return masked;
}

}  // namespace freshet
