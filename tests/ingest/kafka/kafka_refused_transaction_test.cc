// A transaction that its coordinator refuses ends the process, whichever call meets the refusal first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_sink.h"
#include "tests/ingest/kafka/mock_cluster.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr int16_t kAddPartitionsToTxn = 24;  // numbers of requests in Kafka's protocol
constexpr int16_t kAddOffsetsToTxn = 25;

class Member final : public kafka::GroupMember {
 public:
  kafka::GroupMetadata Metadata() const override {
    return kafka::GroupMetadata(rd_kafka_consumer_group_metadata_new("group"));
  }
  Offset Origin(PartitionId) const override { return Offset{0}; }
};

class KafkaRefusedTransactionTest : public testing::Test {
 protected:
  void SetUp() override {
    KafkaOptions options;
    options.application = "group";
    options.bootstrap_servers = cluster_.address();
    options.source_topic = "in";
    options.recommendations_topic = MockCluster::kTopic;
    auto sink = kafka::MakeTransactionalSink(options, member_);
    ASSERT_TRUE(sink.ok()) << sink.error().message();
    sink_ = std::move(sink).value();
    cluster_.Answer(kAddPartitionsToTxn, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, milliseconds(200));
  }

  static void ExpectRefused(const Status& status) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code(), ErrorCode::kIo) << status.error().message();
    EXPECT_THAT(status.error().message(), HasSubstr("authorization failed"));
    EXPECT_THAT(status.error().message(), HasSubstr("Needed: Write and Describe on each of mock"));
  }

  MockCluster cluster_;
  const Member member_;
  std::unique_ptr<RecordSink> sink_;
  const std::vector<OutputRecord> records_ = std::vector<OutputRecord>(500, {Stream::kRecommendations, "u", "v", {}});
  const PartitionPosition next_{PartitionId{0}, Offset{1}};
};

TEST_F(KafkaRefusedTransactionTest, SeenWithTheNextRecords) {
  ASSERT_TRUE(sink_->Publish(records_).ok());
  std::this_thread::sleep_for(milliseconds(500));
  ExpectRefused(sink_->Publish(records_));
}

TEST_F(KafkaRefusedTransactionTest, SeenBetweenTheRequestsThatTakeOffsetsAlong) {
  cluster_.Answer(kAddOffsetsToTxn, RD_KAFKA_RESP_ERR_NO_ERROR, milliseconds(500));
  ASSERT_TRUE(sink_->Publish(records_).ok());
  ExpectRefused(sink_->Commit({&next_, 1}));
}

TEST_F(KafkaRefusedTransactionTest, SeenBeforeTheOffsets) {
  ASSERT_TRUE(sink_->Publish(records_).ok());
  std::this_thread::sleep_for(milliseconds(500));
  ExpectRefused(sink_->Commit({&next_, 1}));
}

}  // namespace
}  // namespace freshet
