// Brokers that go away and come back, each on a broker of its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/store_listener.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class KafkaOutageTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.application = "outage";
    options_.bootstrap_servers = broker_->address();
    options_.source_topic = broker_->NewTopic("in", 1);
    options_.recommendations_topic = broker_->NewTopic("out", 1);
    options_.dead_letters_topic = broker_->NewTopic("dead", 1);
    options_.properties = {{"reconnect.backoff.max.ms", "500"},
                           // However long this machine takes to start the broker again, the group waits.
                           {"session.timeout.ms", "600000"},
                           {"max.poll.interval.ms", "600000"}};
  }

  // Polls until `count` values are there; an error or a minute's silence fails.
  void PollUntil(EventSource& source, size_t count) {
    const auto until = steady_clock::now() + seconds(120);
    while (values_.size() < count) {
      ASSERT_LT(steady_clock::now(), until) << values_.size() << " of " << count;
      PollOnce(source);
    }
  }

  void PollOnce(EventSource& source) {
    RecordBatch batch;
    const auto polled = source.Poll(batch, 100, milliseconds(100));
    ASSERT_TRUE(polled.ok()) << polled.error().message();
    for (const RawRecord& record : batch.records) values_.emplace_back(record.value);
    for (const PartitionPosition& position : batch.positions) position_ = position;
  }

  std::unique_ptr<TestBroker> broker_ = TestBroker::Own();
  KafkaOptions options_;
  std::vector<std::string> values_;
  PartitionPosition position_;
};

TEST_F(KafkaOutageTest, NothingIsLostWhenTheBrokerGoesAndComesBack) {
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 50);
  auto source = MakeKafkaSource(options_);
  auto sink = MakeKafkaSink(options_);
  ASSERT_TRUE(source.ok() && sink.ok());
  StoreListener listener;
  listener.on_assigned = [&](const Assignment& assignment) {
    if (position_.next > Offset{0}) listener.stored[assignment.partition] = position_.next;
    return Status();
  };
  ASSERT_TRUE((*source)->Open(listener).ok());
  PollUntil(**source, 50);

  broker_->Stop();
  const auto until = steady_clock::now() + seconds(5);
  while (steady_clock::now() < until) PollOnce(**source);  // an outage is no error
  const auto began = steady_clock::now();
  EXPECT_TRUE((*source)->Commit(std::vector{position_}).ok());
  EXPECT_LT(steady_clock::now() - began, seconds(10));
  const std::vector<OutputRecord> records = {{Stream::kRecommendations, "u1", "first", {}},
                                             {Stream::kRecommendations, "u1", "second", {}}};
  ASSERT_TRUE((*sink)->Publish(records).ok());
  auto committed = std::async(std::launch::async, [&] { return (*sink)->Commit(std::vector{position_}); });
  EXPECT_EQ(committed.wait_for(seconds(1)), std::future_status::timeout);

  broker_->Start();
  const Status status = committed.get();
  ASSERT_TRUE(status.ok()) << status.error().message();
  broker_->ProduceNumbers(options_.source_topic, 0, 50, 50);
  PollUntil(**source, 100);
  for (size_t i = 0; i < values_.size(); ++i) ASSERT_EQ(values_[i], std::to_string(i));
  const auto out = broker_->Read(options_.recommendations_topic);
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].value, "first");
  EXPECT_EQ(out[1].value, "second");
  // What could not be committed during the outage, or while the group's coordinator is sought, is committed by itself.
  const auto poll_until_committed = [&](int64_t next) {
    while (broker_->Committed(options_.application, options_.source_topic, 0) != next) PollOnce(**source);
  };
  poll_until_committed(50);
  EXPECT_TRUE((*source)->Commit(std::vector{position_}).ok());
  poll_until_committed(100);
  EXPECT_TRUE((*source)->Close().ok());
}

TEST_F(KafkaOutageTest, WhoIsAskedToStopNeedNotWaitForTheBroker) {
  bool asked = false;
  options_.keep_waiting = [&] {
    asked = true;
    return false;
  };
  auto source = MakeKafkaSource(options_);
  auto sink = MakeKafkaSink(options_);
  ASSERT_TRUE(source.ok() && sink.ok());
  StoreListener listener;
  ASSERT_TRUE((*source)->Open(listener).ok());
  while (listener.assigned.empty()) PollOnce(**source);
  broker_->Stop();
  const auto began = steady_clock::now();
  ASSERT_TRUE((*sink)->Publish(std::vector<OutputRecord>{{Stream::kRecommendations, "u1", "first", {}}}).ok());
  const Status status = (*sink)->Commit({});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kCancelled);
  EXPECT_TRUE(asked);
  EXPECT_TRUE((*source)->Close().ok());
  EXPECT_LT(steady_clock::now() - began, seconds(60));
}

TEST_F(KafkaOutageTest, WhoIsAskedToStopBeforeTheStartHasNothingToWaitFor) {
  options_.bootstrap_servers = "127.0.0.1:1";  // where nobody listens
  options_.source_partitions = 1;
  int waits = 0;
  options_.keep_waiting = [&] { return ++waits < 3; };
  options_.keep_starting = [] { return false; };
  const auto ends = MakeTransactionalKafkaEnds(options_);
  ASSERT_FALSE(ends.ok());
  EXPECT_EQ(ends.error().code(), ErrorCode::kCancelled);
  EXPECT_LE(waits, 1);  // asked once, how long a goodbye may take
}

}  // namespace
}  // namespace freshet
