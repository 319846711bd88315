// The HTTP face of `freshet serve`: /v1/recommendations/{user}?k= and its /stream, /healthz, /readyz, /metrics,
// /v1/status.
//
// A look-up is answered on the server's own thread, which reads the store: from memory where the user's block is there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/result.h"
#include "pipeline/http/endpoint.h"
#include "pipeline/readiness.h"
#include "pipeline/serve/recommendation_streams.h"
#include "pipeline/serve/topic_follower.h"
#include "state/recommendation_store.h"

namespace freshet {

struct RecommendationServerOptions : http::Endpoint {
  std::string topic;
  std::string freshet_version;
  size_t max_streams = 400;
};

class RecommendationServer {
 public:
  // Binds and begins to serve. The collaborators outlive it.
  static Result<std::unique_ptr<RecommendationServer>> Start(const RecommendationServerOptions& options,
                                                             const RecommendationStore& store,
                                                             RecommendationStreams& streams,
                                                             const TopicFollower& follower, const Readiness& readiness);
  virtual ~RecommendationServer() = default;  // stops serving and joins

  virtual uint16_t port() const = 0;
};

}  // namespace freshet
