// Who waits for a user's next recommendation: the streams of `freshet serve`.
//
// A stream sends the user's newest record, and each newer one that the store has when its client can take one: what
// comes faster is passed over, as a page would. A client that has a record is told when the user is removed. Threads:
// any.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "ingest/record.h"
#include "pipeline/http/event_stream.h"
#include "state/recommendation_store.h"

namespace freshet {

// A record with its best `k` items only; they are in order.
std::string WithBest(const std::string& record, size_t k);

class RecommendationStreams {
 public:
  // Outlived by the store; outlives its streams.
  explicit RecommendationStreams(const RecommendationStore& store) : store_(store) {}

  // `last_event_id`: of the record that the client has, which is not sent again; empty: none, or the store may be too
  // far behind to tell. A user who is not known is waited for. The stream ends where the store cannot be read.
  std::shared_ptr<http::EventStream> Open(std::string user, size_t k, std::string last_event_id);

  // These are committed. Waits for no client; where there is none, it costs a lock.
  void Tell(std::span<const RawRecord> records);

  size_t open() const;

 private:
  class UserStream;

  const RecommendationStore& store_;
  mutable std::mutex mutex_;
  std::unordered_multimap<std::string_view, UserStream*> streams_;  // by user
};

}  // namespace freshet
