// Events, and wishes to be forgotten, by way of HTTP: each is checked as a record of the topic is, and written there
// with its user as the key.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"
#include "ingest/decoder.h"
#include "ingest/kafka.h"

namespace freshet {

// Threads: one.
class EventIntake {
 public:
  // `writer` outlives it.
  EventIntake(std::unique_ptr<EventDecoder> decoder, EventWriter& writer)
      : decoder_(std::move(decoder)), writer_(writer) {}

  // `done` as EventWriter::Write() has it; kInvalidArgument also for what would become a dead letter, with its code.
  // The record gets what of `trace` is valid.
  void Take(std::string_view body, const TraceContext& trace, std::function<void(Result<PartitionPosition>)> done);
  // Likewise the wish to forget a user, in their place among the user's events: a tombstone.
  void Forget(std::string_view user, const TraceContext& trace, std::function<void(Result<PartitionPosition>)> done);

 private:
  const std::unique_ptr<EventDecoder> decoder_;
  EventWriter& writer_;
  Arena arena_;
};

}  // namespace freshet
