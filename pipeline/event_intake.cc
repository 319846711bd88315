#include "pipeline/event_intake.h"

#include <utility>
#include <variant>

namespace freshet {

void EventIntake::Take(std::string_view body, const TraceContext& trace,
                       std::function<void(Result<PartitionPosition>)> done) {
  arena_.Reset();
  RawRecord record;
  record.value = arena_.Copy(body);
  const std::variant<Event, DecodeFailure> decoded = decoder_->Decode(record, arena_);
  if (const auto* const failure = std::get_if<DecodeFailure>(&decoded)) {
    return done(Error(ErrorCode::kInvalidArgument, std::string(failure->code) + ": " + failure->message));
  }
  writer_.Write(std::get<Event>(decoded).user_id, body, ValidTraceContext(trace.traceparent, trace.tracestate),
                std::move(done));
}

void EventIntake::Forget(std::string_view user, const TraceContext& trace,
                         std::function<void(Result<PartitionPosition>)> done) {
  RawRecord record;
  record.key = user;
  const std::variant<Event, DecodeFailure> decoded = decoder_->Decode(record, arena_);
  if (const auto* const failure = std::get_if<DecodeFailure>(&decoded)) {
    return done(Error(ErrorCode::kInvalidArgument, std::string(failure->code) + ": " + failure->message));
  }
  writer_.Write(user, std::nullopt, ValidTraceContext(trace.traceparent, trace.tracestate), std::move(done));
}

}  // namespace freshet
