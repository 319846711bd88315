#include "ingest/kafka_common.h"

#include <librdkafka/rdkafka.h>
#include <openssl/x509_vfy.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

namespace freshet {
namespace kafka {
namespace {

using std::chrono::steady_clock;

// Any other value of these loses records silently.
constexpr std::array<std::string_view, 8> kOwnProperties = {
    "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "transactional.id",
    "enable.idempotence", "enable.partition.eof",     "isolation.level",   "group.id"};

// librdkafka's own lines. Lost connections are Health's to tell, once; a property that only consumers or only producers
// know is no news, since both get all of kafka.properties; and AUTOCREATE is of brokers without transactions, which
// only its own in-process one is here.
void OnLog(const rd_kafka_t* client, int level, const char* facility, const char* text) {
  const std::string_view topic = facility;
  auto severity = level <= 3 ? spdlog::level::err : level == 4 ? spdlog::level::warn : spdlog::level::debug;
  if (topic == "FAIL" || topic == "ERROR" || topic == "AUTOCREATE") severity = spdlog::level::debug;
  if (topic == "CONFWARN" && std::strstr(text, "will be ignored by this") != nullptr) severity = spdlog::level::debug;
  spdlog::log(severity, "{}: {}: {}", rd_kafka_name(client), facility, text);
}

void OnClientError(rd_kafka_t* client, int code, const char* reason, void* health) {
  static_cast<Health*>(health)->OnError(client, code, reason);
}

// What OpenSSL decided stands: false ends the handshake, and librdkafka logs the certificate and `reason`. Without
// this, a certificate that has expired, of another host, or of a stranger is one and the same "could not be verified".
int OnCertificate(rd_kafka_t*, const char*, int32_t, int* x509_error, int, const char*, size_t, char* reason,
                  size_t reason_bytes, void*) {
  if (*x509_error == X509_V_OK) return 1;
  snprintf(reason, reason_bytes, "%s", X509_verify_cert_error_string(*x509_error));
  return 0;
}

using Conf = std::unique_ptr<rd_kafka_conf_t, decltype(&rd_kafka_conf_destroy)>;

Conf MakeConf() { return {rd_kafka_conf_new(), &rd_kafka_conf_destroy}; }

Status SetProperty(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  std::array<char, 512> message{};
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), message.data(), message.size()) != RD_KAFKA_CONF_OK) {
    const std::string text = message.data();  // some of librdkafka's end with a line feed
    return Error(ErrorCode::kInvalidArgument, "kafka.properties." + name + ": " + text.substr(0, text.find('\n')));
  }
  return {};
}

// One of KafkaOptions::properties.
Status SetGivenProperty(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  if (std::find(kOwnProperties.begin(), kOwnProperties.end(), name) == kOwnProperties.end()) {
    return SetProperty(conf, name, value);
  }
  return Error(ErrorCode::kInvalidArgument,
               "kafka.properties." + name +
                   ": freshet decides this itself: the group is the application, each worker has a transactional.id of "
                   "its own, offsets are committed with what they answer, and where reading begins is source.start and "
                   "source.on_offset_gap");
}

std::string GetProperty(const rd_kafka_conf_t* conf, const std::string& name) {
  std::array<char, 512> value{};
  size_t size = value.size();
  rd_kafka_conf_get(conf, name.c_str(), value.data(), &size);
  return value.data();
}

// librdkafka would take Kerberos, and complain of a keytab.
Status CheckMechanism(const rd_kafka_conf_t* conf, const KafkaOptions& options) {
  if (!GetProperty(conf, "security.protocol").starts_with("sasl")) return {};
  if (options.properties.contains("sasl.mechanism") || options.properties.contains("sasl.mechanisms")) return {};
  return Error(ErrorCode::kInvalidArgument,
               "kafka.properties.sasl.mechanism: expected with security.protocol sasl_ssl or sasl_plaintext, such as "
               "SCRAM-SHA-512 or PLAIN");
}

}  // namespace

void ClientDeleter::operator()(rd_kafka_s* client) const { rd_kafka_destroy(client); }
void HeadersDeleter::operator()(rd_kafka_headers_s* headers) const { rd_kafka_headers_destroy(headers); }
void MessageDeleter::operator()(rd_kafka_message_s* message) const { rd_kafka_message_destroy(message); }

std::string MemberName(const KafkaOptions& options) {
  return options.application + "-" + options.instance + "-" + std::to_string(options.worker);
}

Result<Client> MakeClient(ClientKind kind, const KafkaOptions& options, const Properties& defaults, Health& health,
                          const std::function<void(rd_kafka_conf_s*)>& set_callbacks,
                          std::map<std::string, std::string>* effective) {
  Conf conf = MakeConf();
  Properties all = {{"bootstrap.servers", options.bootstrap_servers},
                    {"client.id", options.application},
                    {"socket.nagle.disable", "true"}};  // small requests would wait for each other's ACK
  all.insert(all.end(), defaults.begin(), defaults.end());
  for (const auto& [name, value] : all) RETURN_IF_ERROR(SetProperty(conf.get(), name, value));
  for (const auto& [name, value] : options.properties) RETURN_IF_ERROR(SetGivenProperty(conf.get(), name, value));
  RETURN_IF_ERROR(CheckMechanism(conf.get(), options));
  if (effective != nullptr) {
    for (auto& [name, value] : *effective) value = GetProperty(conf.get(), name);
  }
  rd_kafka_conf_set_opaque(conf.get(), &health);
  rd_kafka_conf_set_error_cb(conf.get(), &OnClientError);
  rd_kafka_conf_set_log_cb(conf.get(), &OnLog);
  if (GetProperty(conf.get(), "enable.ssl.certificate.verification") == "true") {
    rd_kafka_conf_set_ssl_cert_verify_cb(conf.get(), &OnCertificate);
  }
  set_callbacks(conf.get());

  std::array<char, 512> message{};
  const auto type = kind == ClientKind::kConsumer ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER;
  rd_kafka_t* const client = rd_kafka_new(type, conf.get(), message.data(), message.size());
  if (client == nullptr) return Error(ErrorCode::kInvalidArgument, std::string("kafka.properties: ") + message.data());
  (void)conf.release();  // the client's now
  return Client(client);
}

Properties ReadingDefaults(const KafkaOptions& options) {
  Properties defaults = {
      {"group.id", options.application},
      {"isolation.level", "read_committed"},
      {"enable.auto.commit", "false"},
      {"enable.auto.offset.store", "false"},
      {"auto.offset.reset", "error"},
      {"enable.partition.eof", "true"},  // its offset lies behind control records, which are never delivered
      {"allow.auto.create.topics", "false"},
      // Once all queues are full, fetching pauses for a second, however soon they are empty (librdkafka #2879): they
      // are bounded in bytes alone, which last longer.
      {"queued.min.messages", "1000000"},
      {"queued.max.messages.kbytes", "16384"},
  };
  if (rd_kafka_version() >= 0x02020000) defaults.emplace_back("fetch.queue.backoff.ms", "10");
  return defaults;
}

bool IsTransient(int code) {
  switch (code) {
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR__WAIT_COORD:
    case RD_KAFKA_RESP_ERR__WAIT_CACHE:
    case RD_KAFKA_RESP_ERR__IN_PROGRESS:
    case RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR__INTR:
    case RD_KAFKA_RESP_ERR__RETRY:
    case RD_KAFKA_RESP_ERR__UNKNOWN_BROKER:
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED:
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
    case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
    case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
    case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
    case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE:
    case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
    case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
      return true;
    default:
      return false;
  }
}

bool IsFence(int code) {
  return code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
         code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
}

Error MakeError(const std::string& where, int code) {
  const char* const what = rd_kafka_err2str(static_cast<rd_kafka_resp_err_t>(code));
  return Error(IsTransient(code) ? ErrorCode::kUnavailable : ErrorCode::kIo, "kafka: " + where + ": " + what);
}

Status OnErrorMessage(rd_kafka_s* client, Health& health, const std::string& topic, const rd_kafka_message_s& message,
                      bool& gone) {
  const char* const what = rd_kafka_message_errstr(&message);
  if (IsTransient(message.err)) {
    health.OnError(client, message.err, what);
    return health.status();
  }
  gone |= message.err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
  return Error(ErrorCode::kIo, "kafka: " + topic + ": " + what);
}

Status CloseConsumer(rd_kafka_s* client) {
  const auto code = rd_kafka_consumer_close(client);
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? Status() : Status(MakeError("close", code));
}

void Destroy(Client client, bool gone) {
  if (!gone) return;
  // rd_kafka_destroy() would wait for ever for the partitions of a deleted topic (seen with 2.0.2). The process is
  // about to end anyway.
  rd_kafka_set_log_level(client.get(), 0);
  (void)client.release();
}

namespace {

// A copy with the arena's padding; nothing (null) and empty stay apart.
std::string_view Bytes(const void* bytes, size_t size, Arena& arena) {
  static constexpr char kEmpty[Arena::kPadding] = {};
  if (bytes == nullptr) return {};
  return size == 0 ? std::string_view(kEmpty, 0) : arena.Copy({static_cast<const char*>(bytes), size});
}

TraceContext TraceOf(const rd_kafka_message_t& message, Arena& arena) {
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  const auto value = [&](std::string_view name) -> std::string_view {
    const void* text = nullptr;
    size_t size = 0;
    const auto code = rd_kafka_header_get_last(headers, name.data(), &text, &size);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || text == nullptr) return {};
    return {static_cast<const char*>(text), size};
  };
  const TraceContext trace = ValidTraceContext(value(kTraceParent), value(kTraceState));
  return {arena.Copy(trace.traceparent), arena.Copy(trace.tracestate)};
}

}  // namespace

void AddTrace(const TraceContext& trace, rd_kafka_headers_s* headers) {
  const auto add = [&](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                        static_cast<ssize_t>(value.size()));
  };
  add(kTraceParent, trace.traceparent);
  add(kTraceState, trace.tracestate);
}

void AppendRecord(const rd_kafka_message_s& message, std::string_view topic, RecordBatch& batch) {
  const PartitionId partition{message.partition};
  const Offset offset{message.offset};
  batch.records.push_back({.topic = topic,
                           .partition = partition,
                           .offset = offset,
                           .key = Bytes(message.key, message.key_len, batch.arena),
                           .value = Bytes(message.payload, message.len, batch.arena),
                           .shown_partition = partition,
                           .shown_offset = offset,
                           .header = {},
                           .damage = {},
                           .trace = TraceOf(message, batch.arena)});
}

Assignor ChooseAssignor() {
  if (rd_kafka_version() < 0x020a0000) {
    return {"range,roundrobin", "the cooperative one can lose partitions in a librdkafka older than 2.10"};
  }
  return {"cooperative-sticky", "a rebalance stops only the partitions that move"};
}

Result<int> PartitionsOf(rd_kafka_s* client, const std::string& topic) {
  using TopicHandle = std::unique_ptr<rd_kafka_topic_t, decltype(&rd_kafka_topic_destroy)>;
  const TopicHandle handle(rd_kafka_topic_new(client, topic.c_str(), nullptr), &rd_kafka_topic_destroy);
  if (handle == nullptr) return MakeError(topic, rd_kafka_last_error());
  const rd_kafka_metadata_t* metadata = nullptr;
  const auto failure = rd_kafka_metadata(client, 0, handle.get(), &metadata, 1000);
  if (failure != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(topic, failure);
  const auto code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR__WAIT_CACHE;
  const int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(metadata);
  if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return 0;
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(topic, code);
  return partitions;
}

Status AskUntilAnswered(const KafkaOptions& options, const Waiting& waiting,
                        const std::function<Status(rd_kafka_s*)>& ask) {
  Health health("setup", nullptr);
  // A consumer that joins nothing: unlike a producer it can ask for a topic without creating it.
  const Properties defaults = {
      {"group.id", options.application}, {"isolation.level", "read_committed"}, {"allow.auto.create.topics", "false"}};
  ASSIGN_OR_RETURN(const Client client,
                   MakeClient(ClientKind::kConsumer, options, defaults, health, [](rd_kafka_conf_s*) {}));
  Patience patience;
  while (true) {
    const auto began = steady_clock::now();
    const Status asked = ask(client.get());
    rd_kafka_poll(client.get(), 0);  // lets `health` know
    RETURN_IF_ERROR(health.status());
    if (asked.ok() || !asked.error().retriable()) return asked;
    const std::string reason = "no answer from " + options.bootstrap_servers + " (" +
                               (health.down() ? health.reason() : asked.error().message()) + ")";
    patience.Tell("the start", reason);
    if (!waiting(reason)) return Error(ErrorCode::kCancelled, "kafka: " + reason);
    std::this_thread::sleep_until(began + std::chrono::seconds(1));
  }
}

}  // namespace kafka

Status CheckKafkaProperty(const std::string& name, const std::string& value) {
  return kafka::SetGivenProperty(kafka::MakeConf().get(), name, value);
}

Error OtherPartitions(const std::string& topic, int before, int now) {
  return Error(ErrorCode::kNeedsDecision,
               "source.topic: " + topic + " has " + std::to_string(now) + " partitions, and state was built from " +
                   std::to_string(before) +
                   ": users are in other partitions now. Begin anew with another application, state.directory and "
                   "snapshots.topic, or bring back a topic of " +
                   std::to_string(before) + " partitions");
}

Result<size_t> MaxRecordBytes(const KafkaOptions& options) {
  const kafka::Conf conf = kafka::MakeConf();
  for (const auto& [name, value] : options.properties) {
    RETURN_IF_ERROR(kafka::SetGivenProperty(conf.get(), name, value));
  }
  const size_t most = std::strtoull(kafka::GetProperty(conf.get(), "message.max.bytes").c_str(), nullptr, 10);
  return most - std::min(most, kafka::kRecordOverhead);
}

std::string KafkaClientDescription() {
  const auto assignor = kafka::ChooseAssignor();
  return std::string("librdkafka ") + rd_kafka_version_str() + ", assignor " + assignor.strategy + ": " +
         assignor.reason;
}

}  // namespace freshet
