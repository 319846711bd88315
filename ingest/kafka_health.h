// How a client of librdkafka fares: its brokers, its fences, what it waits for. Internal to ingest/kafka*.cc.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "core/result.h"

struct rd_kafka_s;

namespace freshet::kafka {

// Whether a client's brokers answer. An outage is logged once, and so is its end; it is no error. For the thread that
// polls the client, which is also told of errors; owner() for librdkafka's own threads, too.
class Health {
 public:
  // `name` says in logs and errors whose connection it is, e.g. "freshet.events". `owner` is for callbacks.
  Health(std::string name, void* owner) : name_(std::move(name)), owner_(owner) {}

  // An rd_kafka_resp_err_t that concerns the whole client.
  void OnError(rd_kafka_s* client, int code, const char* reason);
  // A broker answered.
  void OnAnswer();

  bool down() const { return down_; }
  // The last thing that went wrong with a connection.
  const std::string& reason() const { return reason_; }
  // An error once the client cannot go on: a fatal one of librdkafka's (kUnavailable: another client may), or refused
  // credentials.
  const Status& status() const { return status_; }
  void* owner() const { return owner_; }

 private:
  const std::string name_;
  void* const owner_;
  bool down_ = false;
  std::string reason_ = "no answer yet";
  Status status_;
};

// A process may fence itself: of several fences in a row it goes on after the first two. Another process of the same id
// would be fenced by it in turn, for ever.
class Fences {
 public:
  // Counts one more. True for the third within two minutes: somebody else's.
  bool AnotherIsBelieved();

 private:
  int seen_ = 0;
  std::chrono::steady_clock::time_point first_;
};

// Tells the log once why something waits, when it has for ten seconds.
class Patience {
 public:
  void Tell(const std::string& who, const std::string& reason);

 private:
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  bool told_ = false;
};

// Looks for the end of an outage, which without records nothing else would notice.
class Probe {
 public:
  // Whether a second has passed since it last was.
  bool Due();
  // Where the brokers are down: asks for a sign of life, and tells `health` of it.
  static void Ask(rd_kafka_s* client, Health& health);

 private:
  std::chrono::steady_clock::time_point next_;
};

}  // namespace freshet::kafka
