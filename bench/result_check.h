// Whether a replay's output is right, by the book: outside of what is timed.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/result.h"
#include "inference/model.h"
#include "pipeline/event_log.h"

namespace freshet::bench {

struct CheckOptions {
  int64_t records = 0;     // expected
  bool from_first = true;  // each user's records count from 1; else from wherever they begin
  int top_k = 100;
  int samples = 20;
  uint64_t seed = 1;
};

// Error unless `output` has `options.records` records, each user's sequence numbers without a gap, and a sample of them
// with the scores of FullForward() over the user's whole prefix in `log` and TopKPlain() without the items seen.
Status CheckOutput(const std::filesystem::path& output, const EventLog& log, const Model& model,
                   const CheckOptions& options);

}  // namespace freshet::bench
