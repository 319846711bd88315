#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "ingest/embedded_broker.h"
#include "ingest/kafka_common.h"

namespace freshet {
namespace kafka {
namespace {

class MockBroker : public EmbeddedBroker {
 public:
  MockBroker(Client client, Owned<rd_kafka_mock_cluster_t> cluster)
      : client_(std::move(client)), cluster_(std::move(cluster)) {}

  std::string address() const override { return rd_kafka_mock_cluster_bootstraps(cluster_.get()); }

 private:
  const Client client_;  // the cluster's threads are its
  const Owned<rd_kafka_mock_cluster_t> cluster_;
};

}  // namespace
}  // namespace kafka

Result<std::unique_ptr<EmbeddedBroker>> EmbeddedBroker::Start(const std::map<std::string, int>& topics) {
  const auto failed = [](const std::string& why) {
    return Error(ErrorCode::kUnavailable, "--embedded-broker: " + why);
  };
  char message[256];
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  rd_kafka_conf_set_log_cb(conf, nullptr);  // it misses an address, which is what it is here to give
  kafka::Client client(rd_kafka_new(RD_KAFKA_PRODUCER, conf, message, sizeof(message)));
  if (client == nullptr) return failed(message);
  kafka::Owned<rd_kafka_mock_cluster_t> cluster(rd_kafka_mock_cluster_new(client.get(), 1),
                                                &rd_kafka_mock_cluster_destroy);
  if (cluster == nullptr) return failed("librdkafka's mock cluster does not start");
  for (const auto& [topic, partitions] : topics) {
    const auto code = rd_kafka_mock_topic_create(cluster.get(), topic.c_str(), partitions, 1);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return failed(topic + ": " + rd_kafka_err2str(code));
  }
  return std::unique_ptr<EmbeddedBroker>(new kafka::MockBroker(std::move(client), std::move(cluster)));
}

}  // namespace freshet
