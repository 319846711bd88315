// The workers of a process: one thread, one pipeline, one source and one sink each.
//
// Stop order: request → every worker finishes its micro-batch → commits → gives its partitions back → joins. A worker
// that fails stops all; what it had not committed is gone from memory, and the next start goes on from the last commit.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "core/result.h"
#include "ingest/decoder.h"
#include "ingest/event_source.h"
#include "ingest/record_sink.h"
#include "pipeline/current_model.h"
#include "pipeline/live_queries.h"
#include "pipeline/pipeline.h"
#include "pipeline/readiness.h"

namespace freshet {

// A worker's parts. The pipeline borrows the others, so it is declared last and dies first.
struct Worker {
  std::unique_ptr<EventDecoder> decoder;
  std::unique_ptr<EventSource> source;
  std::unique_ptr<RecordSink> sink;
  std::unique_ptr<Pipeline> pipeline;
};

struct WorkerOptions {
  bool emit_final = false;         // after the input's end, a recommendation for each user
  Readiness* readiness = nullptr;  // told of each worker's first assignment; may be null
  LiveQueries* queries = nullptr;  // answered between micro-batches; may be null
  // Where the next models come from, each taken up between two commits; null: pipelines keep what they have.
  const CurrentModel* model = nullptr;
  // Called on the calling thread, about ten times a second, with the sum over workers and the share of the input that
  // is done (-1: unknown).
  std::function<void(const PipelineCounts&, double)> progress;
  // Called on the calling thread every `tidy_interval`, as long as every worker has its share of the input.
  std::function<void()> tidy;
  std::chrono::milliseconds tidy_interval{60'000};
};

// Runs all workers until their input ends, `stop` becomes true, or one fails (its error). `counts` receives the sums.
Status RunWorkers(std::vector<Worker>& workers, const std::atomic<bool>& stop, const WorkerOptions& options,
                  PipelineCounts& counts);

}  // namespace freshet
