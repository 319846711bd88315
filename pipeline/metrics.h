// What /metrics shows. Workers add to their own instruments once a micro-batch; a scrape reads atomics and never waits
// for a worker.
//
// Threads: each WorkerMetrics belongs to one worker, which is the only one that writes; Render() any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace freshet {

enum class Stage { kPoll, kDecode, kLoad, kAttention, kRank, kEncode, kPublish, kCommit };
inline constexpr std::array<std::string_view, 8> kStageNames = {"poll", "decode", "load",    "attention",
                                                                "rank", "encode", "publish", "commit"};

class WorkerMetrics {
 public:
  virtual ~WorkerMetrics() = default;

  virtual void AddEvents(int64_t count) = 0;              // freshet_events_total: accepted
  virtual void AddRepeats(int64_t count) = 0;             // freshet_repeated_events_total: dropped by applied_offset
  virtual void AddUnknownItems(int64_t count) = 0;        // freshet_unknown_items_total
  virtual void AddRecommendations(int64_t count) = 0;     // freshet_recommendations_total
  virtual void AddDeadLetter(std::string_view code) = 0;  // freshet_dead_letters_total{reason}
  virtual void ObserveStage(Stage stage, double seconds,
                            int64_t events) = 0;  // freshet_stage_seconds{stage}: histogram per micro-batch
  virtual void ObserveLatency(
      double seconds) = 0;  // freshet_event_latency_seconds: event time to published, where the clock allows
  // Gauges; from the worker's last look.
  virtual void SetHotCache(int64_t users, int64_t bytes, int64_t hits, int64_t misses, int64_t evictions) = 0;
  virtual void SetLag(std::string_view topic, int32_t partition,
                      int64_t records) = 0;                             // freshet_consumer_lag{topic,partition}
  virtual void DropLag(std::string_view topic, int32_t partition) = 0;  // the partition left this instance
  virtual void SetAssigned(int64_t partitions) = 0;
};

class Metrics {
 public:
  // `model_name`, `model_version`: labels of freshet_model_info.
  static std::unique_ptr<Metrics> Make(std::string_view model_name, std::string_view model_version);
  virtual ~Metrics() = default;

  // Lives as long as the Metrics.
  virtual WorkerMetrics& Worker(int worker) = 0;

  // The text exposition format.
  virtual std::string Render() = 0;
};

}  // namespace freshet
