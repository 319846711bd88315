// Events that come from elsewhere than the topic, on their way to it.
#include <librdkafka/rdkafka.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"

namespace freshet {
namespace kafka {
namespace {

constexpr int kPollMs = 100;
constexpr int kFirstAnswerMs = 500;

using Done = std::function<void(Result<PartitionPosition>)>;

class Writer : public EventWriter {
 public:
  explicit Writer(const KafkaOptions& options)
      : options_(options), health_("producer to " + options.source_topic, nullptr) {}
  ~Writer() override {
    if (client_ == nullptr) return;
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
    rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    while (rd_kafka_outq_len(client_.get()) > 0) rd_kafka_poll(client_.get(), kPollMs);  // each `done` is called
  }

  Status Connect(std::chrono::milliseconds patience) {
    const Properties defaults = {
        {"partitioner", "murmur2_random"},  // as Java's clients, and as freshet's recommendations
        {"acks", "all"},
        {"message.send.max.retries", "0"},  // a record is there once, or its sender hears that it may not be
        {"message.timeout.ms", std::to_string(patience.count())},
        {"linger.ms", "1"},
        {"queue.buffering.max.messages", "10000"},
        {"queue.buffering.max.kbytes", "32768"},
        {"allow.auto.create.topics", "false"},
    };
    const auto set_callbacks = [](rd_kafka_conf_t* conf) { rd_kafka_conf_set_dr_msg_cb(conf, &Writer::OnDelivery); };
    ASSIGN_OR_RETURN(client_, MakeClient(ClientKind::kProducer, options_, defaults, health_, set_callbacks));
    topic_.reset(rd_kafka_topic_new(client_.get(), options_.source_topic.c_str(), nullptr));
    if (topic_ == nullptr) return MakeError(options_.source_topic, rd_kafka_last_error());
    thread_ = std::thread([this] {
      for (bool found = false; !stopping_;) {
        found = found || FindLeaders();
        rd_kafka_poll(client_.get(), kPollMs);
      }
    });
    return {};
  }

  void Write(std::string_view key, std::optional<std::string_view> value, const TraceContext& trace,
             Done done) override {
    const char* const bytes = !value ? nullptr : value->empty() ? "" : value->data();
    const size_t size = value ? value->size() : 0;
    auto waiting = std::make_unique<Done>(std::move(done));
    Headers headers(rd_kafka_headers_new(2));
    AddTrace(trace, headers.get());
    const auto code = rd_kafka_producev(client_.get(), RD_KAFKA_V_TOPIC(options_.source_topic.c_str()),
                                        RD_KAFKA_V_KEY(key.data(), key.size()),
                                        RD_KAFKA_V_VALUE(const_cast<char*>(bytes), size),  // NOLINT: copied
                                        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(waiting.get()),
                                        RD_KAFKA_V_HEADERS(headers.get()), RD_KAFKA_V_END);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
      (void)headers.release();  // the record's now
      (void)waiting.release();  // OnDelivery()'s now
    } else {
      (*waiting)(Refused(options_.source_topic, code));
    }
  }

 private:
  // Before the first event, whose patience might not last until a busy machine's brokers have said who takes it.
  bool FindLeaders() {
    const rd_kafka_metadata_t* metadata = nullptr;
    const auto code = rd_kafka_metadata(client_.get(), 0, topic_.get(), &metadata, kFirstAnswerMs);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return false;
    rd_kafka_metadata_destroy(metadata);
    return true;
  }

  static void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* message, void*) {
    const std::unique_ptr<Done> waiting(static_cast<Done*>(message->_private));
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      return (*waiting)(PartitionPosition{PartitionId{message->partition}, Offset{message->offset}});
    }
    (*waiting)(Refused(rd_kafka_topic_name(message->rkt), message->err));
  }

  static Error Refused(const std::string& topic, rd_kafka_resp_err_t code) {
    const bool too_large = code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    return Error(too_large ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable,
                 topic + ": " + rd_kafka_err2str(code));
  }

  const KafkaOptions options_;
  Health health_;
  Client client_;
  Owned<rd_kafka_topic_t> topic_{nullptr, &rd_kafka_topic_destroy};
  std::atomic<bool> stopping_{false};
  std::thread thread_;  // serves the client's callbacks
};

}  // namespace
}  // namespace kafka

Result<std::unique_ptr<EventWriter>> MakeEventWriter(const KafkaOptions& options, std::chrono::milliseconds patience) {
  auto writer = std::make_unique<kafka::Writer>(options);
  RETURN_IF_ERROR(writer->Connect(patience));
  return std::unique_ptr<EventWriter>(std::move(writer));
}

}  // namespace freshet
