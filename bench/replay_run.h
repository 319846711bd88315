// One replay of log files through the real pipeline, one worker, and what it cost.
//
// Threads: the caller's is the worker's. Times are CPU times from the first micro-batch's records in hand to the last
// commit, so opening and closing RocksDB is not in them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/result.h"
#include "pipeline/metrics.h"
#include "pipeline/pipeline.h"
#include "pipeline/serving_model.h"

namespace freshet::bench {

using StageSeconds = std::array<double, kStageNames.size()>;

struct ReplayOptions {
  std::vector<std::filesystem::path> inputs;  // the state directory may have some of them behind it
  std::filesystem::path state_directory;
  std::filesystem::path output;
  Emit emit = Emit::kEvery;
  int top_k = 100;
  size_t hot_cache_bytes = size_t{1} << 30;
};

struct ReplayCost {
  PipelineCounts counts;
  StageSeconds stages{};       // of the worker's thread
  double worker_seconds = 0;   // all of it
  double process_seconds = 0;  // with RocksDB's background threads
  double wall_seconds = 0;
  int64_t hits = 0;    // of the hot cache
  int64_t misses = 0;  // read from RocksDB, or new
  int64_t output_bytes = 0;
};

Result<ReplayCost> RunReplay(const ReplayOptions& options, const ServingModel& serving);

// CPU seconds of this thread so far.
double ThreadCpuSeconds();

}  // namespace freshet::bench
