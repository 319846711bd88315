// librdkafka's mock cluster of one broker, whose answers a test decides.
#pragma once

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ingest/kafka_common.h"

namespace freshet {

class MockCluster {
 public:
  static constexpr char kTopic[] = "mock";  // of 4 partitions

  MockCluster() : client_(MakeClient(RD_KAFKA_PRODUCER, {})), cluster_(rd_kafka_mock_cluster_new(client_.get(), 1)) {
    rd_kafka_mock_topic_create(cluster_, kTopic, 4, 1);
  }
  ~MockCluster() { rd_kafka_mock_cluster_destroy(cluster_); }

  std::string address() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }
  // How the next request of this kind is answered.
  void Answer(int16_t request, rd_kafka_resp_err_t code, std::chrono::milliseconds after) {
    rd_kafka_mock_broker_push_request_error_rtts(cluster_, 1, request, 1, code, static_cast<int>(after.count()));
  }

  static kafka::Client MakeClient(rd_kafka_type_t type,
                                  const std::vector<std::pair<std::string, std::string>>& options) {
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    char message[256];
    for (const auto& [name, value] : options) {
      if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), message, sizeof(message)) != RD_KAFKA_CONF_OK) {
        throw std::runtime_error(message);
      }
    }
    rd_kafka_t* const client = rd_kafka_new(type, conf, message, sizeof(message));
    if (client == nullptr) throw std::runtime_error(message);
    return kafka::Client(client);
  }

 private:
  const kafka::Client client_;
  rd_kafka_mock_cluster_t* const cluster_;
};

}  // namespace freshet
