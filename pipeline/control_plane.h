// The HTTP face of a running instance; its paths and answers are in docs/http.md. Errors are application/problem+json.
//
// Own thread; bounded connections, header and body sizes and times, so that a slow or hostile client costs the workers
// nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"
#include "pipeline/dead_letter_samples.h"
#include "pipeline/http/endpoint.h"
#include "pipeline/item_titles.h"
#include "pipeline/live_queries.h"
#include "pipeline/metrics.h"
#include "pipeline/readiness.h"

namespace freshet {

// Where an event went.
struct EventReceipt {
  int32_t partition = 0;
  int64_t offset = 0;
};

// Takes an event's bytes to the input topic, waiting for nobody, and calls `done` once, from any thread:
// kInvalidArgument for what is no event, kUnavailable where nobody acknowledged it. Called on the control plane's
// thread.
using TakeEvent = std::function<void(std::string_view body, const TraceContext& trace,
                                     std::function<void(Result<EventReceipt>)> done)>;

// The instance that has the users of a partition.
struct UserOwner {
  int32_t partition = 0;
  std::string address;            // its http.advertise
  std::chrono::milliseconds age;  // of this knowledge
};

// Of a user; nothing where that is not known. Called on the control plane's thread, which it must not keep.
using FindOwner = std::function<std::optional<UserOwner>(std::string_view user)>;

struct ControlPlaneOptions : http::Endpoint {
  int top_k = 100;  // the default and the largest k
  std::string application;
  std::string freshet_version;
  bool embedded_broker = false;  // all of it is for trying out
  std::string source_topic;      // where take_event takes events
  TakeEvent take_event;          // empty: there is no POST /v1/events
  FindOwner find_owner;          // empty: nobody is sent to another instance
  TakeEvent forget_user;         // the same of a user's id; empty: there is no DELETE /v1/users/{user}
  // Both outlive the control plane. Null: /v1/dead-letters and /v1/items are empty.
  const DeadLetterSamples* dead_letters = nullptr;
  const ItemTitles* items = nullptr;
};

class ControlPlane {
 public:
  // Binds and begins to serve; the error names the address and, for a port in use, says so. The collaborators outlive
  // it.
  static Result<std::unique_ptr<ControlPlane>> Start(const ControlPlaneOptions& options, const Readiness& readiness,
                                                     Metrics& metrics, LiveQueries& queries);
  virtual ~ControlPlane() = default;  // stops serving and joins

  virtual uint16_t port() const = 0;
};

}  // namespace freshet
