#include "core/trace_context.h"

#include <algorithm>
#include <cstddef>

namespace freshet {
namespace {

constexpr size_t kLength = 55;  // "00-" trace id "-" parent id "-" flags
constexpr size_t kMaxTraceParent = 256;
constexpr size_t kMaxTraceState = 512;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == std::string_view::npos; }

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool IsTraceParent(std::string_view text) {
  if (text.size() < kLength || text.size() > kMaxTraceParent) return false;
  const std::string_view version = text.substr(0, 2), trace = text.substr(3, 32), parent = text.substr(36, 16);
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  if (!IsHex(version) || !IsHex(trace) || !IsHex(parent) || !IsHex(text.substr(53, 2))) return false;
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return false;
  if (text.size() == kLength) return true;
  return version != "00" && text[kLength] == '-' && IsPrintable(text);
}

}  // namespace

TraceContext ValidTraceContext(std::string_view traceparent, std::string_view tracestate) {
  if (!IsTraceParent(traceparent)) return {};
  if (tracestate.size() > kMaxTraceState || !IsPrintable(tracestate)) tracestate = {};
  return {traceparent, tracestate};
}

}  // namespace freshet
