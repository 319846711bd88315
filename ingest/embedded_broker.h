// A Kafka broker within this process, for trying out: librdkafka's mock cluster.
//
// It listens on 127.0.0.1, and other programs (kcat, consumers in any language) reach it there. Not durable: all is
// gone with the process, and of each partition only the newest 5 MiB or so are kept. Not exactly once: it answers as if
// uncommitted transactions were committed. Topics cannot be created by clients' admin requests.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/result.h"

namespace freshet {

class EmbeddedBroker {
 public:
  // With these topics, and how many partitions each has.
  static Result<std::unique_ptr<EmbeddedBroker>> Start(const std::map<std::string, int>& topics);

  virtual ~EmbeddedBroker() = default;

  // For kafka.bootstrap_servers.
  virtual std::string address() const = 0;
};

}  // namespace freshet
