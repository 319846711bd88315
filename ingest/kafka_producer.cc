#include "ingest/kafka_producer.h"

#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <utility>

namespace freshet::kafka {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr char kTruncatedValue[] = "freshet.truncated_bytes";
constexpr char kTruncatedKey[] = "freshet.truncated_key_bytes";
constexpr auto kStillness = std::chrono::milliseconds(500);  // without a delivery, before giving up is thought of
constexpr auto kPatience = std::chrono::seconds(5);          // without a delivery, before the log tells of it

// Keeps a size that is there already: it is that of before an earlier cut.
void AddSize(rd_kafka_headers_t* headers, const char* name, size_t bytes) {
  const void* text = nullptr;
  size_t size = 0;
  if (rd_kafka_header_get_last(headers, name, &text, &size) == RD_KAFKA_RESP_ERR_NO_ERROR) return;
  rd_kafka_header_add(headers, name, -1, std::to_string(bytes).c_str(), -1);
}

// What of a dead letter's key and value fits into `room` bytes: each keeps its beginning, and at least half of the room
// if it needs that much.
std::pair<std::string_view, std::string_view> Cut(size_t room, std::string_view key, std::string_view value,
                                                  rd_kafka_headers_t* headers) {
  const std::string_view kept_key = key.substr(0, std::max(room / 2, room - std::min(room, value.size())));
  const std::string_view kept_value = value.substr(0, room - kept_key.size());
  if (kept_value.size() < value.size()) AddSize(headers, kTruncatedValue, value.size());
  if (kept_key.size() < key.size()) AddSize(headers, kTruncatedKey, key.size());
  return {kept_key, kept_value};
}

// Whether a record that was not delivered for this reason may be in another transaction, of another producer.
bool IsOverWithTheTransaction(int code) {
  switch (code) {
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__STATE:
    case RD_KAFKA_RESP_ERR_INVALID_TXN_STATE:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
      return true;
    default:
      return IsTransient(code) || IsFence(code);
  }
}

}  // namespace

void TopicDeleter::operator()(rd_kafka_topic_s* topic) const { rd_kafka_topic_destroy(topic); }

Producer::Wait::Wait(const Producer& producer)
    : producer_(producer), left_(producer.Undelivered()), since_(steady_clock::now()) {}

Producer::Wait::~Wait() {
  if (told_ && producer_.failure_.ok())
    spdlog::info("kafka: {}: records are delivered again", producer_.options_.recommendations_topic);
}

Status Producer::Wait::GoOn() {
  const auto now = steady_clock::now();
  if (const int left = producer_.Undelivered(); std::exchange(left_, left) != left) since_ = now;
  if (now - since_ > kPatience && !std::exchange(told_, true)) {
    spdlog::warn("kafka: {}: {} records wait for delivery ({})", producer_.options_.recommendations_topic, left_,
                 producer_.Obstacle());
  }
  if (now - since_ > kStillness && producer_.options_.keep_waiting && !producer_.options_.keep_waiting()) {
    told_ = false;
    return Error(ErrorCode::kCancelled, "kafka: " + std::to_string(left_) + " records were not delivered (" +
                                            producer_.health_->reason() + ") when asked to stop");
  }
  return {};
}

void Producer::OnDelivery(rd_kafka_s*, const rd_kafka_message_s* message, void* health) {
  static_cast<Producer*>(static_cast<Health*>(health)->owner())->Delivered(*message);
}

int Producer::OnCloseSocket(int socket, void* health) {
  ++static_cast<Producer*>(static_cast<Health*>(health)->owner())->closed_connections_;
  return ::close(socket);
}

void Producer::Disconnect() {
  if (client_ != nullptr) rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
  recommendations_.reset();
  dead_letters_.reset();
  snapshots_.reset();
  client_.reset();
}

Status Producer::Connect(const std::string& transactional_id) {
  Disconnect();
  failure_ = {};
  health_.emplace("producer to " + options_.recommendations_topic, this);
  transactional_ = !transactional_id.empty();
  Properties defaults = {
      {"enable.idempotence", "true"},
      {"compression.codec", "lz4"},
      {"partitioner", "murmur2_random"},  // as Java's clients: a user's records meet those of other producers
      {"queue.buffering.max.messages", "50000"},
      {"queue.buffering.max.kbytes", "32768"},
      {"delivery.report.only.error", "true"},
  };
  if (transactional_) {
    defaults.emplace_back("transactional.id", transactional_id);
    defaults.emplace_back("transaction.timeout.ms", std::to_string(options_.transaction_timeout.count()));
    // A transaction that comes right after another is told to wait, in a quarter of the cases for this long.
    defaults.emplace_back("retry.backoff.ms", "5");
    // Nobody sees them before the commit, which waits for nothing; batches that are full do not wait either. A shorter
    // time costs a core under load: once it is over, librdkafka's thread spins until what the partition has sent before
    // is acknowledged (an idempotent producer of its has one request under way for each partition).
    defaults.emplace_back("linger.ms", "500");
  } else {
    defaults.emplace_back("linger.ms", "1");
    defaults.emplace_back("message.timeout.ms", "900000");  // an outage shorter than this fails nothing
  }
  if (std::exchange(batch_refused_, false)) {
    max_batch_bytes_ /= 2;
    defaults.emplace_back("batch.size", std::to_string(max_batch_bytes_));
  }
  std::map<std::string, std::string> effective = {{"message.max.bytes", ""}, {"transaction.timeout.ms", ""}};
  const auto set_callbacks = [](rd_kafka_conf_t* conf) {
    rd_kafka_conf_set_dr_msg_cb(conf, &Producer::OnDelivery);
    rd_kafka_conf_set_closesocket_cb(conf, &Producer::OnCloseSocket);
  };
  ASSIGN_OR_RETURN(client_, MakeClient(ClientKind::kProducer, options_, defaults, *health_, set_callbacks, &effective));
  closed_connections_ = 0;
  transaction_timeout_ = std::chrono::milliseconds(std::atoll(effective["transaction.timeout.ms"].c_str()));
  if (max_batch_bytes_ == 0) max_batch_bytes_ = std::strtoull(effective["message.max.bytes"].c_str(), nullptr, 10);
  const std::pair<Topic&, const std::string&> topics[] = {{recommendations_, options_.recommendations_topic},
                                                          {dead_letters_, options_.dead_letters_topic},
                                                          {snapshots_, options_.snapshots_topic}};
  for (const auto& [topic, name] : topics) {
    if (name.empty()) continue;
    topic.reset(rd_kafka_topic_new(client_.get(), name.c_str(), nullptr));
    if (topic == nullptr) return MakeError(name, rd_kafka_last_error());
  }
  return {};
}

// A topic that somebody deletes is not among what librdkafka reports: its records time out.
std::string Producer::Obstacle() const {
  for (const std::string& topic :
       {options_.recommendations_topic, options_.dead_letters_topic, options_.snapshots_topic}) {
    if (topic.empty() || health_->down()) continue;
    const auto partitions = PartitionsOf(client_.get(), topic);
    if (partitions.ok() && *partitions == 0) return "topic " + topic + " does not exist";
  }
  return health_->reason();
}

Status Producer::Publish(std::span<const OutputRecord> records) {
  for (const OutputRecord& record : records) {
    switch (record.stream) {
      case Stream::kRecommendations:
        RETURN_IF_ERROR(PublishRecommendation(record));
        break;
      case Stream::kDeadLetters:
        RETURN_IF_ERROR(PublishDeadLetter(record));
        break;
      case Stream::kSnapshots:
        RETURN_IF_ERROR(PublishSnapshot(record));
        break;
    }
  }
  return status();
}

Status Producer::PublishRecommendation(const OutputRecord& record) {
  if (!record.trace.traceparent.empty()) {
    Headers headers(rd_kafka_headers_new(2));
    AddTrace(record.trace, headers.get());
    return WhileFull(options_.recommendations_topic,
                     [&] { return ProduceWith(headers, *recommendations_, record.key, record.value); });
  }
  return WhileFull(options_.recommendations_topic, [&] {
    // librdkafka takes a pointer to non-const, but copies.
    const int refused = rd_kafka_produce(recommendations_.get(), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                         const_cast<char*>(record.value.data()), record.value.size(), record.key.data(),
                                         record.key.size(), nullptr);
    return refused == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_last_error();
  });
}

Status Producer::PublishSnapshot(const OutputRecord& record) {
  return WhileFull(options_.snapshots_topic, [&] {
    const int refused = rd_kafka_produce(snapshots_.get(), Raw(record.partition), RD_KAFKA_MSG_F_COPY,
                                         const_cast<char*>(record.value.data()), record.value.size(), record.key.data(),
                                         record.key.size(), nullptr);
    return refused == 0 ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_last_error();
  });
}

// A dead letter that is too large is cut: it must not stop the stream. Headers tell the original sizes.
Status Producer::PublishDeadLetter(const OutputRecord& record) {
  size_t fixed = kRecordOverhead;
  for (const auto& [name, text] : record.headers) fixed += name.size() + text.size();
  const size_t room = max_batch_bytes_ > fixed ? max_batch_bytes_ - fixed : 0;
  Headers headers(rd_kafka_headers_new(record.headers.size() + 2));
  for (const auto& [name, text] : record.headers) {
    rd_kafka_header_add(headers.get(), name.data(), static_cast<ssize_t>(name.size()), text.data(),
                        static_cast<ssize_t>(text.size()));
  }
  const auto kept = Cut(room, record.key, record.value, headers.get());
  return WhileFull(options_.dead_letters_topic,
                   [&] { return ProduceWith(headers, *dead_letters_, kept.first, kept.second); });
}

// An rd_kafka_resp_err_t. Takes `headers` if it is none.
int Producer::ProduceWith(Headers& headers, rd_kafka_topic_s& topic, std::string_view key, std::string_view value) {
  const auto code = rd_kafka_producev(client_.get(), RD_KAFKA_V_RKT(&topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                      RD_KAFKA_V_KEY(key.data(), key.size()),
                                      RD_KAFKA_V_VALUE(const_cast<char*>(value.data()), value.size()),
                                      RD_KAFKA_V_HEADERS(headers.get()), RD_KAFKA_V_END);
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) (void)headers.release();  // the message's now
  return code;
}

// Repeats `attempt` until the queue has room for it.
template <typename Attempt>
Status Producer::WhileFull(const std::string& topic, Attempt attempt) {
  int code = attempt();
  if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
    Wait wait(*this);
    while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
      rd_kafka_flush(client_.get(), 1);  // it may be full of batches that are not
      rd_kafka_poll(client_.get(), 10);
      RETURN_IF_ERROR(status());
      RETURN_IF_ERROR(wait.GoOn());
      code = attempt();
    }
  }
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) return {};
  RETURN_IF_ERROR(status());  // says more
  // In a transaction that has failed nothing can be produced any more.
  if (transactional_ && (code == RD_KAFKA_RESP_ERR__STATE || code == RD_KAFKA_RESP_ERR__FATAL)) {
    return Error(ErrorCode::kUnavailable, "kafka: " + topic + ": the transaction has failed");
  }
  failure_ = MakeError(topic, code);
  return failure_;
}

void Producer::Delivered(const rd_kafka_message_s& message) {
  const bool dropped =
      message.err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || message.err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
  if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR || dropped || !failure_.ok()) return;
  const std::string topic = rd_kafka_topic_name(message.rkt);
  const std::string problem = "kafka: " + topic + ": a record of " + std::to_string(message.len) +
                              " bytes was not delivered: " + rd_kafka_err2str(message.err);
  auto code = ErrorCode::kIo;
  if (message.err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
    // The topic takes less than message.max.bytes: of one record, or of a batch of them.
    const bool dead_letter = topic == options_.dead_letters_topic;
    const size_t size = message.key_len + message.len;
    if (!transactional_ && dead_letter && size > 0) return Shorten(message);
    // A transaction has failed with it; the next one's batches are smaller, and so are its dead letters.
    batch_refused_ = transactional_ && max_batch_bytes_ > (dead_letter ? 0 : size) + kRecordOverhead;
    if (batch_refused_) code = ErrorCode::kUnavailable;
  }
  if (transactional_ && IsOverWithTheTransaction(message.err)) code = ErrorCode::kUnavailable;
  failure_ = Error(code, problem);
}

// Halves a refused dead letter, which is then published again. (Not at once: inside of its delivery report the queue
// may be full, and nothing can wait for room.)
void Producer::Shorten(const rd_kafka_message_s& message) {
  rd_kafka_headers_t* old = nullptr;
  rd_kafka_message_headers(&message, &old);
  Headers headers(old == nullptr ? rd_kafka_headers_new(2) : rd_kafka_headers_copy(old));
  const auto [key, value] =
      Cut((message.key_len + message.len) / 2, {static_cast<const char*>(message.key), message.key_len},
          {static_cast<const char*>(message.payload), message.len}, headers.get());
  shortened_.push_back({std::string(key), std::string(value), std::move(headers)});
}

void Producer::PublishShortened() {
  for (; !shortened_.empty() && failure_.ok(); shortened_.pop_front()) {
    Shortened& letter = shortened_.front();
    // Nothing, as most that are empty were: null.
    const int code = ProduceWith(letter.headers, *dead_letters_, letter.key.empty() ? std::string_view() : letter.key,
                                 letter.value.empty() ? std::string_view() : letter.value);
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL) return;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) failure_ = MakeError(options_.dead_letters_topic, code);
  }
}

// A flush lets each partition send the next of what waits, and makes librdkafka's thread spin as long as it cannot. So
// it is a short one, and the next one comes a while after something was delivered; or later, for what is sent again.
Status Producer::Flush() {
  constexpr milliseconds kSoonest{4}, kLatest{16};
  Wait wait(*this);
  steady_clock::time_point flushed{};  // never
  auto moved = steady_clock::now();
  for (int before = 0, left; (left = Undelivered()) > 0; before = left) {
    RETURN_IF_ERROR(status());
    const auto now = steady_clock::now();
    if (left != before) moved = now;
    if (now - flushed >= (moved > flushed ? kSoonest : kLatest)) {
      flushed = now;
      rd_kafka_flush(client_.get(), 1);
    } else {
      const auto still = std::chrono::duration_cast<milliseconds>(now - moved);
      rd_kafka_poll(client_.get(), static_cast<int>(std::clamp(still / 8, milliseconds(1), kLatest).count()));
    }
    RETURN_IF_ERROR(wait.GoOn());
  }
  return status();
}

void Producer::Purge() {
  shortened_.clear();
  rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE);
  rd_kafka_poll(client_.get(), 0);
}

int Producer::Undelivered() const { return rd_kafka_outq_len(client_.get()) + static_cast<int>(shortened_.size()); }

Status Producer::status() {
  rd_kafka_poll(client_.get(), 0);
  PublishShortened();
  return failure_.ok() ? health_->status() : failure_;
}

}  // namespace freshet::kafka
