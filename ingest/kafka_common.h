// What the Kafka source and sink share: making and ending a client, its messages, names for errors. Internal to
// ingest/kafka*.cc; librdkafka's types are only declared here.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "ingest/kafka.h"
#include "ingest/kafka_health.h"
#include "ingest/record.h"

struct rd_kafka_s;
struct rd_kafka_conf_s;
struct rd_kafka_headers_s;
struct rd_kafka_message_s;

namespace freshet::kafka {

struct ClientDeleter {
  void operator()(rd_kafka_s* client) const;
};
using Client = std::unique_ptr<rd_kafka_s, ClientDeleter>;

struct HeadersDeleter {
  void operator()(rd_kafka_headers_s* headers) const;
};
using Headers = std::unique_ptr<rd_kafka_headers_s, HeadersDeleter>;

struct MessageDeleter {
  void operator()(rd_kafka_message_s* message) const;
};
using Message = std::unique_ptr<rd_kafka_message_s, MessageDeleter>;

// Any other object of librdkafka's, with what destroys it.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

enum class ClientKind { kConsumer, kProducer };

// A worker's group.instance.id and transactional.id. REQUIRES: options.instance is not empty.
std::string MemberName(const KafkaOptions& options);

using Properties = std::vector<std::pair<std::string, std::string>>;

// A client with freshet's `defaults`, over which options.properties win. `set_callbacks` may register callbacks; their
// opaque pointer is `health`, which outlives the client. Its log lines go to spdlog. `effective`, where given, is
// filled with the value of each of its keys.
Result<Client> MakeClient(ClientKind kind, const KafkaOptions& options, const Properties& defaults, Health& health,
                          const std::function<void(rd_kafka_conf_s*)>& set_callbacks,
                          std::map<std::string, std::string>* effective = nullptr);

// To tell an address in a member's client.id, which the others of its group can see, and nobody else reads.
void TellAddress(rd_kafka_conf_s* conf, const std::string& address);
// Empty: it tells none.
std::string AddressIn(std::string_view client_id);

// Of a consumer that reads the whole of its partitions, and knows itself where to go on.
Properties ReadingDefaults(const KafkaOptions& options);

// Whether trying again may help against this rd_kafka_resp_err_t.
bool IsTransient(int code);

// Whether an rd_kafka_resp_err_t says that a producer's epoch is over: another has its transactional.id, or a
// transaction outlived its timeout.
bool IsFence(int code);

// "where: what librdkafka says"; kUnavailable where it is transient.
Error MakeError(const std::string& where, int code);

// Bytes of a record that are neither key, value nor header: an upper bound.
inline constexpr size_t kRecordOverhead = 512;

// Bound of one request on the polling thread.
inline constexpr int kRequestMs = 2000;

// Of a topic; 0 where it does not exist, kUnavailable while the brokers do not say.
Result<int> PartitionsOf(rd_kafka_s* client, const std::string& topic);

// Asks with a consumer of `options` that joins nothing, about once a second, until `ask` succeeds or its error is not
// kUnavailable; kCancelled where `waiting(reason)` says to give up.
Status AskUntilAnswered(const KafkaOptions& options, const Waiting& waiting,
                        const std::function<Status(rd_kafka_s*)>& ask);

// What an error among the messages of `topic` means: nothing where it may pass, or else the end. `gone` becomes true
// where the topic was deleted.
Status OnErrorMessage(rd_kafka_s* client, Health& health, const std::string& topic, const rd_kafka_message_s& message,
                      bool& gone);

// Leaves the group, if any, which revokes all partitions.
Status CloseConsumer(rd_kafka_s* client);
// The end of a closed consumer. `gone`: its topic was deleted.
void Destroy(Client client, bool gone);

// Adds a trace's headers, as far as it has them.
void AddTrace(const TraceContext& trace, rd_kafka_headers_s* headers);

// Copies a message into `batch`. `topic` outlives it.
void AppendRecord(const rd_kafka_message_s& message, std::string_view topic, RecordBatch& batch);

// The assignor for this librdkafka, and why.
struct Assignor {
  const char* strategy;
  const char* reason;
};
Assignor ChooseAssignor();

}  // namespace freshet::kafka
