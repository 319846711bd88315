// The newest few dead letters of each reason, for people who look at a running instance; all of them are in the topic.
//
// Guarantees: memory is bounded by kReasons * kKept samples of about kMostBytes each for key, value and message.
// Threads: any. Add() never waits: where another thread is at it, the sample is dropped.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ingest/decoder.h"
#include "ingest/record.h"

namespace freshet {

struct DeadLetterSample {
  std::string reason;  // the code, as in the dead letter's header freshet.error
  std::string message;
  std::string topic;
  PartitionId partition{};
  Offset offset{};
  std::string key, value;  // any bytes
  bool cut = false;        // `value` is only the beginning
  int64_t read_at_ms = 0;  // since the epoch
};

class DeadLetterSamples {
 public:
  static constexpr size_t kKept = 5;  // of each reason
  static constexpr size_t kReasons = 64;
  static constexpr size_t kMostBytes = 512;

  // A record that is read again, after a transaction that came to nothing, stays one sample.
  void Add(const RawRecord& record, const DecodeFailure& failure);

  // Reasons in order of their names, of each the newest first.
  std::vector<DeadLetterSample> Newest() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::deque<DeadLetterSample>, std::less<>> samples_;  // by reason, oldest first
};

// The same decoder, whose refusals become samples. `samples` outlives it.
std::unique_ptr<EventDecoder> WithSamples(std::unique_ptr<EventDecoder> decoder, DeadLetterSamples& samples);

}  // namespace freshet
