#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"

namespace freshet {
namespace {

using kafka::Health;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Bytes of a record that are neither key, value nor header: an upper bound.
constexpr size_t kRecordOverhead = 512;
constexpr char kTruncatedValue[] = "freshet.truncated_bytes";
constexpr char kTruncatedKey[] = "freshet.truncated_key_bytes";
constexpr auto kPatience = seconds(10);  // without a delivery, before the log tells of it

using Topic = std::unique_ptr<rd_kafka_topic_t, decltype(&rd_kafka_topic_destroy)>;
using Headers = std::unique_ptr<rd_kafka_headers_t, decltype(&rd_kafka_headers_destroy)>;

// Keeps a size that is there already: it is that of before an earlier cut.
void AddSize(const Headers& headers, const char* name, size_t bytes) {
  const void* text = nullptr;
  size_t size = 0;
  if (rd_kafka_header_get_last(headers.get(), name, &text, &size) == RD_KAFKA_RESP_ERR_NO_ERROR) return;
  rd_kafka_header_add(headers.get(), name, -1, std::to_string(bytes).c_str(), -1);
}

class KafkaSink final : public RecordSink {
 public:
  explicit KafkaSink(const KafkaOptions& options)
      : options_(options), health_("producer to " + options.recommendations_topic, this) {}

  Status Connect();

  Status Publish(std::span<const OutputRecord> records) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  void Abort() override;

 private:
  // While the brokers take nothing; tells the log, and asks the owner whether to go on.
  class Wait;

  static void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* message, void* health) {
    static_cast<KafkaSink*>(static_cast<Health*>(health)->owner())->Delivered(*message);
  }
  void Delivered(const rd_kafka_message_t& message);
  Status PublishRecommendation(const OutputRecord& record);
  Status PublishDeadLetter(const OutputRecord& record);
  bool PublishShortened(const rd_kafka_message_t& message);
  rd_kafka_resp_err_t Produce(const Topic& topic, std::string_view key, std::string_view value, Headers headers);
  template <typename Attempt>
  Status WhileFull(const std::string& topic, Attempt attempt);
  Status Broken() const { return failure_.ok() ? health_.status() : failure_; }

  const KafkaOptions options_;
  Health health_;
  kafka::Client client_;
  Topic recommendations_{nullptr, &rd_kafka_topic_destroy};  // before client_ in destruction
  Topic dead_letters_{nullptr, &rd_kafka_topic_destroy};
  size_t max_record_bytes_ = 0;
  Status failure_;  // the first delivery that failed for good; the sink is broken
};

class KafkaSink::Wait {
 public:
  explicit Wait(KafkaSink& sink) : sink_(sink), left_(Left()), since_(steady_clock::now()) {}
  ~Wait() {
    if (told_) spdlog::info("kafka: {}: records are delivered again", sink_.options_.recommendations_topic);
  }

  // Whether to go on; called about once a second or more often.
  Status GoOn() {
    const auto now = steady_clock::now();
    if (const int left = Left(); std::exchange(left_, left) != left) {
      since_ = now;
      sink_.health_.OnAnswer();
    }
    if (now - since_ < kPatience) return {};
    if (!std::exchange(told_, true)) {
      spdlog::warn("kafka: {}: {} records wait for delivery ({})", sink_.options_.recommendations_topic, left_,
                   sink_.health_.reason());
    }
    if (sink_.options_.keep_waiting && !sink_.options_.keep_waiting()) {
      told_ = false;
      return Error(ErrorCode::kCancelled, "kafka: " + std::to_string(left_) + " records were not delivered (" +
                                              sink_.health_.reason() + ") when asked to stop");
    }
    return {};
  }

 private:
  int Left() const { return rd_kafka_outq_len(sink_.client_.get()); }

  KafkaSink& sink_;
  int left_;
  steady_clock::time_point since_;
  bool told_ = false;
};

Status KafkaSink::Connect() {
  const kafka::Properties defaults = {
      {"enable.idempotence", "true"},
      {"compression.codec", "lz4"},
      {"linger.ms", "5"},
      {"partitioner", "murmur2_random"},  // as Java's clients: a user's records meet those of other producers
      {"message.timeout.ms", "900000"},   // an outage shorter than this fails nothing
      {"queue.buffering.max.messages", "50000"},
      {"queue.buffering.max.kbytes", "32768"},
      {"delivery.report.only.error", "true"},
  };
  std::map<std::string, std::string> effective = {{"message.max.bytes", ""}};
  ASSIGN_OR_RETURN(client_,
                   kafka::MakeClient(
                       kafka::ClientKind::kProducer, options_, defaults, health_,
                       [](auto* conf) { rd_kafka_conf_set_dr_msg_cb(conf, &KafkaSink::OnDelivery); }, &effective));
  max_record_bytes_ = std::strtoull(effective["message.max.bytes"].c_str(), nullptr, 10);
  for (auto* const topic : {&recommendations_, &dead_letters_}) {
    const std::string& name = topic == &recommendations_ ? options_.recommendations_topic : options_.dead_letters_topic;
    topic->reset(rd_kafka_topic_new(client_.get(), name.c_str(), nullptr));
    if (*topic == nullptr) return kafka::MakeError(name, rd_kafka_last_error());
  }
  return {};
}

Status KafkaSink::Publish(std::span<const OutputRecord> records) {
  for (const OutputRecord& record : records) {
    RETURN_IF_ERROR(record.stream == Stream::kDeadLetters ? PublishDeadLetter(record) : PublishRecommendation(record));
  }
  rd_kafka_poll(client_.get(), 0);
  return Broken();
}

Status KafkaSink::PublishRecommendation(const OutputRecord& record) {
  return WhileFull(options_.recommendations_topic, [&] {
    // librdkafka takes a pointer to non-const, but copies.
    const int refused = rd_kafka_produce(recommendations_.get(), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                         const_cast<char*>(record.value.data()), record.value.size(), record.key.data(),
                                         record.key.size(), nullptr);
    return refused == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_last_error();
  });
}

// A dead letter that is too large loses the end of its value, then that of its key: it must not stop the stream.
// Headers tell the original sizes.
Status KafkaSink::PublishDeadLetter(const OutputRecord& record) {
  size_t fixed = kRecordOverhead;
  for (const auto& [name, text] : record.headers) fixed += name.size() + text.size();
  const size_t room = max_record_bytes_ > fixed ? max_record_bytes_ - fixed : 0;
  const std::string_view key = record.key.substr(0, room);
  const std::string_view value = record.value.substr(0, room - key.size());
  return WhileFull(options_.dead_letters_topic, [&] {
    Headers headers(rd_kafka_headers_new(record.headers.size() + 1), &rd_kafka_headers_destroy);
    for (const auto& [name, text] : record.headers) {
      rd_kafka_header_add(headers.get(), name.data(), static_cast<ssize_t>(name.size()), text.data(),
                          static_cast<ssize_t>(text.size()));
    }
    if (value.size() < record.value.size()) AddSize(headers, kTruncatedValue, record.value.size());
    if (key.size() < record.key.size()) AddSize(headers, kTruncatedKey, record.key.size());
    return Produce(dead_letters_, key, value, std::move(headers));
  });
}

rd_kafka_resp_err_t KafkaSink::Produce(const Topic& topic, std::string_view key, std::string_view value,
                                       Headers headers) {
  const auto code = rd_kafka_producev(client_.get(), RD_KAFKA_V_RKT(topic.get()),
                                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(key.data(), key.size()),
                                      RD_KAFKA_V_VALUE(const_cast<char*>(value.data()), value.size()),
                                      RD_KAFKA_V_HEADERS(headers.get()), RD_KAFKA_V_END);
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) (void)headers.release();  // the message's now
  return code;
}

// Repeats `attempt` until the queue has room for it.
template <typename Attempt>
Status KafkaSink::WhileFull(const std::string& topic, Attempt attempt) {
  auto code = attempt();
  if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
    Wait wait(*this);
    while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
      rd_kafka_poll(client_.get(), 10);
      RETURN_IF_ERROR(Broken());
      RETURN_IF_ERROR(wait.GoOn());
      code = attempt();
    }
  }
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  failure_ = kafka::MakeError(topic, code);
  return failure_;
}

void KafkaSink::Delivered(const rd_kafka_message_t& message) {
  const bool aborted =
      message.err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || message.err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
  if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR || aborted || !failure_.ok()) return;
  const std::string topic = rd_kafka_topic_name(message.rkt);
  // The topic takes less than message.max.bytes.
  if (message.err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE && topic == options_.dead_letters_topic &&
      PublishShortened(message)) {
    return;
  }
  failure_ = Error(ErrorCode::kIo, "kafka: " + topic + ": a record of " + std::to_string(message.len) +
                                       " bytes was not delivered: " + rd_kafka_err2str(message.err));
}

// Publishes a refused dead letter again with half of its value. False where nothing is left to leave out.
bool KafkaSink::PublishShortened(const rd_kafka_message_t& message) {
  if (message.len == 0) return false;
  rd_kafka_headers_t* old = nullptr;
  rd_kafka_message_headers(&message, &old);
  Headers headers(old == nullptr ? rd_kafka_headers_new(1) : rd_kafka_headers_copy(old), &rd_kafka_headers_destroy);
  AddSize(headers, kTruncatedValue, message.len);
  const std::string_view key(static_cast<const char*>(message.key), message.key_len);
  const std::string_view value(static_cast<const char*>(message.payload), message.len / 2);
  return Produce(dead_letters_, key, value, std::move(headers)) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

// A flush for which every delivery was good. `positions` are for the transaction that takes them along.
Status KafkaSink::Commit(std::span<const PartitionPosition> positions) {
  (void)positions;
  Wait wait(*this);
  while (rd_kafka_outq_len(client_.get()) > 0) {
    RETURN_IF_ERROR(Broken());
    rd_kafka_flush(client_.get(), 500);
    RETURN_IF_ERROR(wait.GoOn());
  }
  return Broken();
}

// Drops what is still here; what a broker has cannot be taken back without transactions.
void KafkaSink::Abort() {
  rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE);
  rd_kafka_poll(client_.get(), 0);
}

}  // namespace

Result<std::unique_ptr<RecordSink>> MakeKafkaSink(const KafkaOptions& options) {
  auto sink = std::make_unique<KafkaSink>(options);
  RETURN_IF_ERROR(sink->Connect());
  return std::unique_ptr<RecordSink>(std::move(sink));
}

}  // namespace freshet
