// Records on their way to the recommendation and dead-letter topics: one librdkafka producer with back-pressure.
//
// Threads: one worker's, whose calls also serve the client's callbacks. Internal to ingest/kafka*.cc.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "ingest/kafka_common.h"
#include "ingest/record.h"

struct rd_kafka_topic_s;
struct rd_kafka_message_s;

namespace freshet::kafka {

struct TopicDeleter {
  void operator()(rd_kafka_topic_s* topic) const;
};

class Producer {
 public:
  explicit Producer(const KafkaOptions& options) : options_(options) {}
  ~Producer() { Disconnect(); }

  // Makes the client, in place of the one before, whose undelivered records are gone. With a `transactional_id` it can
  // do transactions, and is to be initialised for them.
  Status Connect(const std::string& transactional_id);

  // Hands records over, waiting for room; copies them. A dead letter that is too large is cut, and headers say so. The
  // error is that of status().
  Status Publish(std::span<const OutputRecord> records);

  // Waits until everything is delivered.
  Status Flush();

  // Drops what is not delivered yet.
  void Purge();

  // Serves callbacks; then why records cannot be delivered any more. kUnavailable: a new client may be able to.
  Status status();

  rd_kafka_s* client() const { return client_.get(); }
  // As kafka.properties have it, or else KafkaOptions.
  std::chrono::milliseconds transaction_timeout() const { return transaction_timeout_; }
  // Connections to brokers that ended since Connect(). Any thread.
  int64_t closed_connections() const { return closed_connections_.load(); }

  // The wait of a call that the brokers keep waiting: tells the log after some seconds, and asks the owner whether to
  // go on.
  class Wait;

 private:
  using Topic = std::unique_ptr<rd_kafka_topic_s, TopicDeleter>;

  struct Shortened {  // a dead letter that was refused
    std::string key;
    std::string value;
    Headers headers;
  };

  static void OnDelivery(rd_kafka_s*, const rd_kafka_message_s* message, void* health);
  static int OnCloseSocket(int socket, void* health);
  void Disconnect();
  void Delivered(const rd_kafka_message_s& message);
  Status PublishRecommendation(const OutputRecord& record);
  Status PublishSnapshot(const OutputRecord& record);
  Status PublishDeadLetter(const OutputRecord& record);
  int ProduceWith(Headers& headers, rd_kafka_topic_s& topic, std::string_view key, std::string_view value);
  void Shorten(const rd_kafka_message_s& message);
  void PublishShortened();
  int Undelivered() const;
  std::string Obstacle() const;
  template <typename Attempt>
  Status WhileFull(const std::string& topic, Attempt attempt);

  const KafkaOptions& options_;
  bool transactional_ = false;
  std::chrono::milliseconds transaction_timeout_{};
  std::optional<Health> health_;
  Client client_;
  Topic recommendations_;  // before client_ in destruction
  Topic dead_letters_;
  Topic snapshots_;                  // null: there is none
  size_t max_batch_bytes_ = 0;       // 0: not known yet; message.max.bytes, or less, as the topics taught
  bool batch_refused_ = false;       // since Connect()
  std::deque<Shortened> shortened_;  // to be published again
  Status failure_;                   // the first delivery that failed for good
  std::atomic<int64_t> closed_connections_{0};
};

class Producer::Wait {
 public:
  explicit Wait(const Producer& producer);
  ~Wait();

  // Whether to go on; called about once a second or more often.
  Status GoOn();

 private:
  const Producer& producer_;
  int left_;
  std::chrono::steady_clock::time_point since_;
  bool told_ = false;
};

}  // namespace freshet::kafka
