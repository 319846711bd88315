// The HTTP face of a running instance: /healthz, /readyz, /metrics, /v1/recommendations/{user}?k=, /v1/status. Errors
// are application/problem+json.
//
// Own thread; bounded connections, header and body sizes and times, so that a slow or hostile client costs the workers
// nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/result.h"
#include "pipeline/live_queries.h"
#include "pipeline/metrics.h"
#include "pipeline/readiness.h"

namespace freshet {

struct ControlPlaneOptions {
  std::string listen = "127.0.0.1:8080";  // host:port; port 0 picks a free one; IPv6 as [::1]:8080
  int top_k = 100;                        // the default and the largest k
  std::string application;
  std::string freshet_version;
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
