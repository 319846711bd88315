// The trace that a record belongs to, as W3C's Trace Context puts it into two headers.
#pragma once

#include <cstddef>
#include <string_view>

namespace freshet {

inline constexpr std::string_view kTraceParent = "traceparent";
inline constexpr std::string_view kTraceState = "tracestate";

// Views; whoever makes one says for how long.
struct TraceContext {
  std::string_view traceparent;  // empty: there is no trace
  std::string_view tracestate;   // empty: nothing besides

  bool operator==(const TraceContext&) const = default;
};

// What both headers of a valid one take at most, names included.
inline constexpr size_t kMaxTraceBytes = 800;

// What of two headers may be passed on, unchanged: nothing where `traceparent` is not valid, and no `tracestate` that
// is not, or is over 512 characters. https://www.w3.org/TR/trace-context/: a version not known yet counts as valid
// where it begins as version 00 is.
TraceContext ValidTraceContext(std::string_view traceparent, std::string_view tracestate);

}  // namespace freshet
