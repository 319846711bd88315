// Commits of offsets against librdkafka's mock cluster, whose answers a test decides.
#include "ingest/kafka_offset_commits.h"

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/store_listener.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr int16_t kOffsetCommit = 8;  // number of the request in Kafka's protocol
constexpr char kTopic[] = "mock";

class MockCluster {
 public:
  MockCluster() : client_(MakeClient(RD_KAFKA_PRODUCER, {})), cluster_(rd_kafka_mock_cluster_new(client_.get(), 1)) {
    rd_kafka_mock_topic_create(cluster_, kTopic, 4, 1);
  }
  ~MockCluster() { rd_kafka_mock_cluster_destroy(cluster_); }

  std::string address() const { return rd_kafka_mock_cluster_bootstraps(cluster_); }
  // How the next request of this kind is answered.
  void Answer(int16_t request, rd_kafka_resp_err_t code, milliseconds after) {
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

// A refusal that comes late tells nothing of what the next generation of the group has to commit.
TEST(OffsetCommits, ALateRefusalForgetsWhatItRefuses) {
  MockCluster cluster;
  const kafka::Client consumer =
      MockCluster::MakeClient(RD_KAFKA_CONSUMER, {{"bootstrap.servers", cluster.address()}, {"group.id", "group"}});
  kafka::Health health("consumer of mock", nullptr);
  const std::string topic = kTopic;
  kafka::OffsetCommits commits(consumer.get(), topic, health);
  commits.Add(PartitionId{0}, Offset{1}, Offset{});
  ASSERT_TRUE(commits.Send(seconds(20)).ok()) << "it has found its coordinator from here on";
  ASSERT_TRUE(commits.empty());

  cluster.Answer(kOffsetCommit, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, milliseconds(1000));
  commits.Add(PartitionId{0}, Offset{2}, Offset{});
  commits.Add(PartitionId{1}, Offset{5}, Offset{});
  ASSERT_TRUE(commits.Send().ok());
  commits.Forget(PartitionId{0});
  commits.Add(PartitionId{1}, Offset{6}, Offset{});
  commits.Add(PartitionId{2}, Offset{7}, Offset{});
  ASSERT_TRUE(commits.Send(seconds(20)).ok());
  EXPECT_FALSE(commits.empty()) << "6 and 7 were not sent yet";
  ASSERT_TRUE(commits.Send(seconds(20)).ok());
  EXPECT_TRUE(commits.empty());
}

// However many partitions go, the coordinator's answer is waited for once.
TEST(OffsetCommits, RevocationsWaitForOneAnswer) {
  MockCluster cluster;
  KafkaOptions options;
  options.application = "group";
  options.bootstrap_servers = cluster.address();
  options.source_topic = kTopic;
  StoreListener listener;
  const auto source = MakeKafkaSource(options).value();
  ASSERT_TRUE(source->Open(listener).ok());
  RecordBatch batch;
  const auto until = steady_clock::now() + seconds(60);
  while (listener.current.size() < 4 && steady_clock::now() < until) {
    const auto polled = source->Poll(batch, 100, milliseconds(100));
    ASSERT_TRUE(polled.ok()) << polled.error().message();
  }
  ASSERT_EQ(listener.current.size(), 4u);

  cluster.Answer(kOffsetCommit, RD_KAFKA_RESP_ERR_NO_ERROR, seconds(8));
  std::vector<PartitionPosition> positions;
  for (int p = 0; p < 4; ++p) positions.push_back({PartitionId{p}, Offset{1}});
  ASSERT_TRUE(source->Commit(positions).ok());
  std::vector<steady_clock::time_point> revoked;
  listener.on_revoked = [&](PartitionId, bool) {
    revoked.push_back(steady_clock::now());
    return Status();
  };
  ASSERT_TRUE(source->Close().ok());
  ASSERT_EQ(revoked.size(), 4u);
  EXPECT_LT(revoked.back() - revoked.front(), seconds(1));
}

}  // namespace
}  // namespace freshet
