#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/ingest/kafka/joined_ends.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using testing::HasSubstr;

class KafkaTransactionTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.application = UniqueName("group");
    options_.instance = "one-two";
    options_.bootstrap_servers = broker_.address();
    options_.source_topic = broker_.NewTopic("in", 1);
    options_.recommendations_topic = broker_.NewTopic("out", 1);
    options_.dead_letters_topic = broker_.NewTopic("dead", 1);
  }

  static Status PublishAndCommit(RecordSink& sink, const std::string& value, int64_t position) {
    const OutputRecord record{Stream::kRecommendations, "u", value, {}};
    const PartitionPosition next{PartitionId{0}, Offset{position}};
    RETURN_IF_ERROR(sink.Publish({&record, 1}));
    return sink.Commit({&next, 1});
  }

  // Readers see a transaction some milliseconds after its commit.
  std::vector<std::string> Read(size_t at_least) {
    std::vector<std::string> values;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    do {
      values.clear();
      for (const auto& record : broker_.Read(options_.recommendations_topic)) values.push_back(*record.value);
    } while (values.size() < at_least && std::chrono::steady_clock::now() < until);
    return values;
  }

  TestBroker& broker_ = TestBroker::Shared();
  KafkaOptions options_;
};

// Two processes of one instance. Their groups differ here, so that they are no rivals as consumers as well.
TEST_F(KafkaTransactionTest, SinksOfOneInstanceFenceEachOtherUntilOneGivesUp) {
  KafkaOptions same = options_;
  same.application = options_.application + "-one";
  same.instance = "two";
  JoinedEnds first(options_);
  JoinedEnds second(same);
  RecordSink* const sinks[] = {&first.sink(), &second.sink()};
  int fenced = 0;
  Status status;
  for (int turn = 0; turn < 10; ++turn) {
    RecordSink& sink = *sinks[turn % 2];
    status = PublishAndCommit(sink, "fenced", turn);
    ASSERT_FALSE(status.ok()) << "turn " << turn;
    if (status.error().code() != ErrorCode::kAborted) break;
    ++fenced;
    ASSERT_TRUE(sink.Abort().ok());  // goes on, by fencing the other
  }
  EXPECT_EQ(fenced, 4) << "each begins anew twice";
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_THAT(status.error().message(), HasSubstr("transactional.id " + options_.application + "-one-two-0: fenced"));
  EXPECT_THAT(status.error().message(), HasSubstr("another process uses it, whose state directory is a copy"));
  EXPECT_THAT(status.error().message(), HasSubstr("Stop one of them"));
  const Status other = PublishAndCommit(second.sink(), "kept", 7);
  ASSERT_TRUE(other.ok()) << other.error().message();
  EXPECT_THAT(Read(1), testing::ElementsAre("kept"));
  EXPECT_EQ(broker_.Committed(same.application, options_.source_topic, 0), 7);
}

// How long a transaction may live, and so what counts as a fence, kafka.properties may say.
TEST_F(KafkaTransactionTest, AFenceIsKnownByTheTimeoutThatHolds) {
  options_.transaction_timeout = std::chrono::milliseconds(1000);
  options_.properties["transaction.timeout.ms"] = "60000";
  KafkaOptions same = options_;
  same.application = options_.application + "-one";
  same.instance = "two";
  JoinedEnds first(options_);
  JoinedEnds second(same);
  RecordSink* const sinks[] = {&first.sink(), &second.sink()};
  Status status;
  int turns = 0;
  for (; turns < 8; ++turns) {
    RecordSink& sink = *sinks[turns % 2];
    const OutputRecord record{Stream::kRecommendations, "u", "fenced", {}};
    const PartitionPosition next{PartitionId{0}, Offset{turns}};
    status = sink.Publish({&record, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    if (status.ok()) status = sink.Commit({&next, 1});
    ASSERT_FALSE(status.ok()) << "turn " << turns;
    if (status.error().code() != ErrorCode::kAborted) break;
    ASSERT_TRUE(sink.Abort().ok());
  }
  EXPECT_EQ(turns, 4);
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_THAT(status.error().message(), HasSubstr("fenced again and again"));
}

// The broker says so with the delivery, where the partition is part of the transaction already.
TEST_F(KafkaTransactionTest, ADeliveryThatMetAFenceEndsTheTransactionOnly) {
  KafkaOptions same = options_;
  same.application = options_.application + "-one";
  same.instance = "two";
  JoinedEnds first(options_);
  const std::vector<OutputRecord> records(500, {Stream::kRecommendations, "u", "fenced", {}});
  Status status = first.sink().Publish(records);
  ASSERT_TRUE(status.ok()) << status.error().message();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const JoinedEnds second(same);
  for (int turn = 0; turn < 100 && status.ok(); ++turn) {
    status = first.sink().Publish(records);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kAborted) << status.error().message();
  ASSERT_TRUE(first.sink().Abort().ok());
  ASSERT_TRUE(PublishAndCommit(first.sink(), "kept", 7).ok());
  EXPECT_THAT(Read(1), testing::ElementsAre("kept"));
}

// As a pipeline does it: again, until it is committed.
void PublishUntilCommitted(RecordSink& sink, const std::vector<OutputRecord>& records) {
  Status status(Error(ErrorCode::kAborted, ""));
  for (int tries = 0; tries < 12 && !status.ok() && status.error().code() == ErrorCode::kAborted; ++tries) {
    ASSERT_TRUE(sink.Abort().ok());
    const PartitionPosition next{PartitionId{0}, Offset{7}};
    status = sink.Publish(records);
    if (status.ok()) status = sink.Commit({&next, 1});
  }
  ASSERT_TRUE(status.ok()) << status.error().message();
}

TEST_F(KafkaTransactionTest, ADeadLetterThatTheTopicRefusesIsShortened) {
  options_.dead_letters_topic = broker_.NewTopic("small-dead", 1, {{"max.message.bytes", "16384"}});
  options_.properties["compression.codec"] = "none";
  JoinedEnds ends(options_);
  const std::string large(100'000, 'x');
  PublishUntilCommitted(ends.sink(), {{Stream::kDeadLetters, large, "undecodable", {}}});
  PublishUntilCommitted(ends.sink(), {{Stream::kDeadLetters, "k", large, {}}});
  const auto dead = broker_.Read(options_.dead_letters_topic);
  ASSERT_EQ(dead.size(), 2u);
  EXPECT_GT(dead[0].key->size(), 7'000u);
  EXPECT_LT(dead[0].key->size(), 16'384u);
  EXPECT_EQ(dead[0].headers.at("freshet.truncated_key_bytes"), "100000");
  EXPECT_EQ(dead[0].value, "undecodable");
  EXPECT_EQ(dead[1].key, "k");
  EXPECT_GT(dead[1].value->size(), 7'000u);
  EXPECT_LT(dead[1].value->size(), 16'384u);
  EXPECT_EQ(dead[1].headers.at("freshet.truncated_bytes"), "100000");
}

// What is small enough by itself arrives whole, however many come at once.
TEST_F(KafkaTransactionTest, BatchesThatATopicRefusesGetSmaller) {
  options_.dead_letters_topic = broker_.NewTopic("small-dead", 1, {{"max.message.bytes", "16384"}});
  options_.recommendations_topic = broker_.NewTopic("small-out", 1, {{"max.message.bytes", "16384"}});
  options_.properties["compression.codec"] = "none";
  JoinedEnds ends(options_);
  const std::string value(1000, 'x');
  std::vector<OutputRecord> records(300, {Stream::kDeadLetters, "k", value, {}});
  records.insert(records.end(), 300, {Stream::kRecommendations, "u", value, {}});
  PublishUntilCommitted(ends.sink(), records);
  for (const std::string& topic : {options_.dead_letters_topic, options_.recommendations_topic}) {
    const auto found = broker_.Read(topic);
    EXPECT_EQ(found.size(), 300u) << topic;
    for (const auto& record : found) ASSERT_EQ(record.value, value);
  }
}

TEST_F(KafkaTransactionTest, ARecordThatIsTooLargeByItselfIsNamed) {
  options_.recommendations_topic = broker_.NewTopic("small-out", 1, {{"max.message.bytes", "16384"}});
  options_.properties["compression.codec"] = "none";
  JoinedEnds ends(options_);
  const std::string value(100'000, 'x');
  Status status(Error(ErrorCode::kAborted, ""));
  while (!status.ok() && status.error().code() == ErrorCode::kAborted) {
    ASSERT_TRUE(ends.sink().Abort().ok());
    status = PublishAndCommit(ends.sink(), value, 7);
  }
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_THAT(status.error().message(), HasSubstr(options_.recommendations_topic + ": a record of 100000 bytes"));
}

TEST_F(KafkaTransactionTest, AnAbortedTransactionTakesNoPositionAlong) {
  JoinedEnds ends(options_);
  ASSERT_TRUE(PublishAndCommit(ends.sink(), "first", 3).ok());
  const OutputRecord record{Stream::kRecommendations, "u", "aborted", {}};
  ASSERT_TRUE(ends.sink().Publish({&record, 1}).ok());
  ASSERT_TRUE(ends.sink().Abort().ok());
  EXPECT_EQ(broker_.Committed(options_.application, options_.source_topic, 0), 3);
  ASSERT_TRUE(PublishAndCommit(ends.sink(), "second", 5).ok());
  EXPECT_THAT(Read(2), testing::ElementsAre("first", "second"));
  EXPECT_EQ(broker_.Committed(options_.application, options_.source_topic, 0), 5);
}

}  // namespace
}  // namespace freshet
