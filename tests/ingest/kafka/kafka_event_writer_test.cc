// Events that come over HTTP, to a mock cluster that does not always answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/mock_cluster.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr int16_t kProduce = 0;  // in Kafka's protocol

class KafkaEventWriterTest : public testing::Test {
 protected:
  static KafkaOptions Options(const std::string& servers) {
    KafkaOptions options;
    options.application = "shop";
    options.bootstrap_servers = servers;
    options.source_topic = MockCluster::kTopic;
    return options;
  }
  static Result<PartitionPosition> Write(EventWriter& writer, std::string_view key, std::string_view value) {
    std::promise<Result<PartitionPosition>> promise;
    writer.Write(key, value, {}, [&](Result<PartitionPosition> place) { promise.set_value(std::move(place)); });
    return promise.get_future().get();
  }

  MockCluster cluster_;
  std::unique_ptr<EventWriter> writer_ = MakeEventWriter(Options(cluster_.address()), milliseconds(10'000)).value();
};

TEST_F(KafkaEventWriterTest, WritesWhereJavasClientsDo) {
  std::map<PartitionId, int64_t> written;
  for (int user = 0; user < 20; ++user) {
    const std::string key = "user-" + std::to_string(user);
    const auto place = Write(*writer_, key, "{}");
    ASSERT_TRUE(place.ok()) << place.error().message();
    const int32_t expected = rd_kafka_msg_partitioner_murmur2(nullptr, key.data(), key.size(), 4, nullptr, nullptr);
    EXPECT_EQ(Raw(place->partition), expected) << key;
    EXPECT_EQ(Raw(place->next), written[place->partition]++) << key;
  }
  EXPECT_EQ(written.size(), 4U);
}

TEST_F(KafkaEventWriterTest, TellsWhatWasNotAcknowledgedAndSendsItOnlyOnce) {
  ASSERT_TRUE(Write(*writer_, "u", "0").ok());
  cluster_.Answer(kProduce, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, milliseconds(0));
  const auto refused = Write(*writer_, "u", "1");
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(refused.error().retriable());
  EXPECT_THAT(refused.error().message(), HasSubstr("mock: "));
  const auto next = Write(*writer_, "u", "2");
  ASSERT_TRUE(next.ok()) << next.error().message();
  EXPECT_EQ(Raw(next->next), 1) << "what was refused is not sent again";
}

// What it looks like on the topic is tests/integration/run_kafka_test.py's.
TEST_F(KafkaEventWriterTest, TakesATraceAlong) {
  std::promise<Result<PartitionPosition>> promise;
  const TraceContext trace{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1"};
  writer_->Write("u", "v", trace, [&](Result<PartitionPosition> place) { promise.set_value(std::move(place)); });
  EXPECT_TRUE(promise.get_future().get().ok());
}

TEST_F(KafkaEventWriterTest, RefusesWhatIsTooLarge) {
  const auto refused = Write(*writer_, "u", std::string(2'000'000, 'x'));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(KafkaEventWriterTest, GivesUpInTimeAndWhenItEnds) {
  const auto impatient = MakeEventWriter(Options("127.0.0.1:1"), milliseconds(100)).value();
  const auto late = Write(*impatient, "u", "v");
  ASSERT_FALSE(late.ok());
  EXPECT_TRUE(late.error().retriable());
  auto patient = MakeEventWriter(Options("127.0.0.1:1"), milliseconds(600'000)).value();
  int given_up = 0;
  for (int i = 0; i < 3; ++i)
    patient->Write("u", "v", {}, [&](const Result<PartitionPosition>& place) { given_up += !place.ok(); });
  patient.reset();
  EXPECT_EQ(given_up, 3);
}

}  // namespace
}  // namespace freshet
