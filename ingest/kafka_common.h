// What the Kafka source and sink share: making a client, the health of its connection, names for errors. Internal to
// ingest/kafka*.cc; librdkafka's types are only declared here.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "ingest/kafka.h"
#include "ingest/record.h"

struct rd_kafka_s;
struct rd_kafka_conf_s;
struct rd_kafka_message_s;

namespace freshet::kafka {

struct ClientDeleter {
  void operator()(rd_kafka_s* client) const;
};
using Client = std::unique_ptr<rd_kafka_s, ClientDeleter>;

enum class ClientKind { kConsumer, kProducer };

// Whether a client's brokers answer. An outage is logged once, and so is its end; it is no error. Told of errors on the
// thread that polls the client, which is its only user.
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

// A worker's group.instance.id and transactional.id. REQUIRES: options.instance is not empty.
std::string MemberName(const KafkaOptions& options);

using Properties = std::vector<std::pair<std::string, std::string>>;

// A client with freshet's `defaults`, over which options.properties win. `set_callbacks` may register callbacks; their
// opaque pointer is `health`, which outlives the client. Its log lines go to spdlog. `effective`, where given, is
// filled with the value of each of its keys.
Result<Client> MakeClient(ClientKind kind, const KafkaOptions& options, const Properties& defaults, Health& health,
                          const std::function<void(rd_kafka_conf_s*)>& set_callbacks,
                          std::map<std::string, std::string>* effective = nullptr);

// Of a consumer that reads the whole of its partitions, and knows itself where to go on.
Properties ReadingDefaults(const KafkaOptions& options);

// Whether trying again may help against this rd_kafka_resp_err_t.
bool IsTransient(int code);

// Whether an rd_kafka_resp_err_t says that a producer's epoch is over: another has its transactional.id, or a
// transaction outlived its timeout.
bool IsFence(int code);

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

// "where: what librdkafka says"; kUnavailable where it is transient.
Error MakeError(const std::string& where, int code);

// Tells the log once why something waits, when it has for ten seconds.
class Patience {
 public:
  void Tell(const std::string& who, const std::string& reason);

 private:
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  bool told_ = false;
};

// Asks the brokers for a sign of life, at most `timeout_ms`; tells `health` of it.
void Probe(rd_kafka_s* client, Health& health, int timeout_ms);

// Bound of one request on the polling thread.
inline constexpr int kRequestMs = 2000;

// Of a topic; 0 where it does not exist, kUnavailable while the brokers do not say.
Result<int> PartitionsOf(rd_kafka_s* client, const std::string& topic);

// Asks with a consumer of `options` that joins nothing, about once a second, until `ask` succeeds or its error is not
// kUnavailable; kCancelled where `waiting(reason)` says to give up.
Status AskUntilAnswered(const KafkaOptions& options, const Waiting& waiting,
                        const std::function<Status(rd_kafka_s*)>& ask);

// Copies a message into `batch`. `topic` outlives it.
void AppendRecord(const rd_kafka_message_s& message, std::string_view topic, RecordBatch& batch);

// The assignor for this librdkafka, and why.
struct Assignor {
  const char* strategy;
  const char* reason;
};
Assignor ChooseAssignor();

}  // namespace freshet::kafka
