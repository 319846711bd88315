// Commits of offsets against librdkafka's mock cluster, whose answers a test decides.
#include "ingest/kafka_offset_commits.h"

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/mock_cluster.h"
#include "tests/ingest/kafka/store_listener.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr int16_t kOffsetCommit = 8;  // number of the request in Kafka's protocol
const std::string kTopic = MockCluster::kTopic;

// A refusal that comes late tells nothing of what the next generation of the group has to commit.
TEST(OffsetCommits, ALateRefusalForgetsWhatItRefuses) {
  MockCluster cluster;
  const kafka::Client consumer =
      MockCluster::MakeClient(RD_KAFKA_CONSUMER, {{"bootstrap.servers", cluster.address()}, {"group.id", "group"}});
  kafka::Health health("consumer of mock", nullptr);
  kafka::OffsetCommits commits(consumer.get(), kTopic, health);
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
