#include "ingest/kafka_health.h"

#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <array>
#include <string>
#include <string_view>

namespace freshet::kafka {
namespace {

using std::chrono::steady_clock;

bool IsRefusal(int code) {
  switch (code) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
      return true;
    default:
      return false;
  }
}

// librdkafka sends a nonce twice, which brokers have minded again since Kafka 4.0 (librdkafka #4895, fixed in 2.6.1).
std::string MaybeScram(std::string_view reason) {
  if (rd_kafka_version() >= 0x02060100 || reason.find("SCRAM") == std::string_view::npos) return "";
  return std::string("; or the password is right: librdkafka ") + rd_kafka_version_str() +
         " cannot do SCRAM with brokers of Kafka 4.0 and later, 2.6.1 (Debian 13) can. PLAIN and client certificates "
         "work";
}

}  // namespace

void Health::OnError(rd_kafka_s* client, int code, const char* reason) {
  std::array<char, 512> message{};
  const auto fatal = rd_kafka_fatal_error(client, message.data(), message.size());
  if (fatal == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID) {
    status_ = Error(ErrorCode::kIo,
                    "kafka: " + name_ +
                        ": fenced again and again: another process has this one's group.instance.id, whose state "
                        "directory is a copy of this one. Stop one of them, and give it an empty state.directory");
  } else if (fatal != RD_KAFKA_RESP_ERR_NO_ERROR) {
    status_ = Error(ErrorCode::kUnavailable, "kafka: " + name_ + ": " + message.data());
  } else if (IsRefusal(code)) {
    status_ = Error(ErrorCode::kIo, "kafka: " + name_ + ": " + reason + MaybeScram(reason));
  } else if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
    if (!down_) spdlog::warn("kafka: {}: no broker answers ({}); waiting", name_, reason_);
    down_ = true;
  } else {
    reason_ = reason;
    spdlog::debug("kafka: {}: {}", name_, reason);
  }
}

void Health::OnAnswer() {
  if (down_) spdlog::info("kafka: {}: the brokers answer again", name_);
  down_ = false;
}

void Patience::Tell(const std::string& who, const std::string& reason) {
  if (told_ || steady_clock::now() - since_ < std::chrono::seconds(10)) return;
  told_ = true;
  spdlog::info("kafka: {} waits: {}", who, reason);
}

bool Fences::AnotherIsBelieved() {
  const auto now = steady_clock::now();
  if (seen_ == 0 || now - first_ > std::chrono::minutes(2)) {
    seen_ = 0;
    first_ = now;
  }
  return ++seen_ >= 3;
}

bool Probe::Due() {
  const auto now = steady_clock::now();
  if (now < next_) return false;
  next_ = now + std::chrono::seconds(1);
  return true;
}

void Probe::Ask(rd_kafka_s* client, Health& health) {
  const rd_kafka_metadata_t* metadata = nullptr;
  if (!health.down() || rd_kafka_metadata(client, 0, nullptr, &metadata, 100) != RD_KAFKA_RESP_ERR_NO_ERROR) return;
  rd_kafka_metadata_destroy(metadata);
  health.OnAnswer();
}

}  // namespace freshet::kafka
