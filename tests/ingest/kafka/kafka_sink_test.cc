#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

class KafkaSinkTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.application = UniqueName("group");
    options_.bootstrap_servers = broker_.address();
    options_.recommendations_topic = broker_.NewTopic("out", 2);
    options_.dead_letters_topic = broker_.NewTopic("dead", 1);
  }

  std::unique_ptr<RecordSink> Make() {
    auto sink = MakeKafkaSink(options_);
    EXPECT_TRUE(sink.ok()) << sink.error().message();
    return std::move(sink).value();
  }

  static void PublishAndCommit(RecordSink& sink, const std::vector<OutputRecord>& records) {
    const Status published = sink.Publish(records);
    ASSERT_TRUE(published.ok()) << published.error().message();
    const Status committed = sink.Commit({});
    ASSERT_TRUE(committed.ok()) << committed.error().message();
  }

  TestBroker& broker_ = TestBroker::Shared();
  KafkaOptions options_;
};

TEST_F(KafkaSinkTest, RecordsArriveByteForByteOnTheirTopics) {
  const std::string binary("\0\xff\n", 3);
  const auto sink = Make();
  {
    // What Publish() was given may go away right after.
    std::string value = "{\"user_id\":\"u1\"}";
    ASSERT_TRUE(sink->Publish(std::vector<OutputRecord>{{Stream::kRecommendations, "u1", value, {}}}).ok());
    value.assign(value.size(), '!');
  }
  PublishAndCommit(
      *sink, {{Stream::kRecommendations, binary, binary, {}},
              {Stream::kDeadLetters, {}, binary, {{"freshet.error", "invalid_json"}, {"freshet.message", binary}}},
              {Stream::kDeadLetters, "k", {}, {{"freshet.error", "empty"}}}});
  std::map<std::string, std::string> recommendations;
  for (const auto& record : broker_.Read(options_.recommendations_topic)) {
    recommendations[record.key.value()] = record.value.value();
    EXPECT_TRUE(record.headers.empty());
  }
  EXPECT_THAT(recommendations, UnorderedElementsAre(Pair("u1", "{\"user_id\":\"u1\"}"), Pair(binary, binary)));
  const auto dead = broker_.Read(options_.dead_letters_topic);
  ASSERT_EQ(dead.size(), 2u);
  EXPECT_EQ(dead[0].key, std::nullopt);
  EXPECT_EQ(dead[0].value, binary);
  EXPECT_THAT(dead[0].headers,
              UnorderedElementsAre(Pair("freshet.error", "invalid_json"), Pair("freshet.message", binary)));
  EXPECT_EQ(dead[1].key, "k");
  EXPECT_EQ(dead[1].value, std::nullopt);
}

TEST_F(KafkaSinkTest, AUsersRecordsKeepTheirOrderInOnePartition) {
  const auto sink = Make();
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back(std::to_string(i));
  std::vector<OutputRecord> records;
  for (size_t i = 0; i < texts.size(); ++i) records.push_back({Stream::kRecommendations, texts[i % 7], texts[i], {}});
  PublishAndCommit(*sink, records);
  std::map<std::string, int> last;
  std::map<std::string, std::set<int32_t>> partitions;
  size_t count = 0;
  for (const auto& record : broker_.Read(options_.recommendations_topic)) {
    const int number = std::stoi(*record.value);
    const auto found = last.try_emplace(*record.key, -1).first;
    EXPECT_LT(found->second, number);
    found->second = number;
    partitions[*record.key].insert(record.partition);
    ++count;
  }
  EXPECT_EQ(count, texts.size());
  for (const auto& [user, of_user] : partitions) EXPECT_EQ(of_user.size(), 1u) << user;
}

TEST_F(KafkaSinkTest, AFullQueueWaitsAndLosesNothing) {
  options_.properties["queue.buffering.max.messages"] = "100";
  options_.properties["linger.ms"] = "60000";
  const auto sink = Make();
  const std::string value(200, 'v');
  PublishAndCommit(*sink, std::vector<OutputRecord>(20000, OutputRecord{Stream::kRecommendations, "u", value, {}}));
  EXPECT_EQ(broker_.Read(options_.recommendations_topic).size(), 20000u);
}

TEST_F(KafkaSinkTest, ADeadLetterThatIsTooLargeLosesItsEnd) {
  const auto sink = Make();
  const std::string value(10 << 20, 'x');
  const std::string key(2 << 20, 'k');
  PublishAndCommit(*sink, {{Stream::kDeadLetters, "k", value, {{"freshet.error", "too_long"}}},
                           {Stream::kDeadLetters, key, "v", {{"freshet.error", "too_long"}}},
                           {Stream::kRecommendations, "u", "after", {}}});
  const auto dead = broker_.Read(options_.dead_letters_topic);
  ASSERT_EQ(dead.size(), 2u);
  EXPECT_EQ(dead[0].key, "k");
  EXPECT_GT(dead[0].value->size(), 990000u);
  EXPECT_EQ(dead[0].headers.at("freshet.truncated_bytes"), std::to_string(value.size()));
  EXPECT_GT(dead[1].key->size(), 990000u);
  EXPECT_EQ(dead[1].headers.at("freshet.truncated_key_bytes"), std::to_string(key.size()));
  EXPECT_EQ(dead[1].value, "v");
  EXPECT_FALSE(dead[1].headers.contains("freshet.truncated_bytes"));
  EXPECT_EQ(dead[1].headers.at("freshet.error"), "too_long");
  EXPECT_EQ(broker_.Read(options_.recommendations_topic).size(), 1u);
}

TEST_F(KafkaSinkTest, ADeadLetterThatTheTopicRefusesIsShortened) {
  options_.dead_letters_topic = broker_.NewTopic("small-dead", 1, {{"max.message.bytes", "10000"}});
  options_.properties["compression.codec"] = "none";
  const auto sink = Make();
  PublishAndCommit(*sink, {{Stream::kDeadLetters, "k", std::string(100000, 'x'), {{"freshet.error", "e"}}}});
  const auto dead = broker_.Read(options_.dead_letters_topic);
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_EQ(dead[0].key, "k");
  EXPECT_LT(dead[0].value->size(), 10000u);
  EXPECT_EQ(dead[0].headers.at("freshet.truncated_bytes"), "100000");
  EXPECT_EQ(dead[0].headers.at("freshet.error"), "e");
}

TEST_F(KafkaSinkTest, AKeyThatTheTopicRefusesIsShortened) {
  options_.dead_letters_topic = broker_.NewTopic("small-dead", 1, {{"max.message.bytes", "16384"}});
  options_.properties["compression.codec"] = "none";
  const auto sink = Make();
  PublishAndCommit(*sink, {{Stream::kDeadLetters, std::string(100'000, 'k'), "undecodable", {{"freshet.error", "e"}}}});
  const auto dead = broker_.Read(options_.dead_letters_topic);
  ASSERT_EQ(dead.size(), 1u);
  EXPECT_GT(dead[0].key->size(), 10'000u);
  EXPECT_LT(dead[0].key->size(), 16'384u);
  EXPECT_EQ(dead[0].headers.at("freshet.truncated_key_bytes"), "100000");
  EXPECT_EQ(dead[0].value, "undecodable");
}

TEST_F(KafkaSinkTest, RefusedDeadLettersFindRoomInAFullQueue) {
  options_.dead_letters_topic = broker_.NewTopic("small-dead", 1, {{"max.message.bytes", "10000"}});
  options_.properties["compression.codec"] = "none";
  options_.properties["queue.buffering.max.messages"] = "3";
  const auto sink = Make();
  const std::string value(30'000, 'x');
  PublishAndCommit(*sink, std::vector<OutputRecord>(50, OutputRecord{Stream::kDeadLetters, "k", value, {}}));
  EXPECT_EQ(broker_.Read(options_.dead_letters_topic).size(), 50u);
}

TEST_F(KafkaSinkTest, ARefusedRecommendationBreaksTheSinkAndIsNamed) {
  options_.recommendations_topic = broker_.NewTopic("small-out", 1, {{"max.message.bytes", "1000"}});
  options_.properties["compression.codec"] = "none";
  const auto sink = Make();
  const std::string value(5000, 'x');
  const std::vector<OutputRecord> records = {{Stream::kRecommendations, "u", value, {}}};
  ASSERT_TRUE(sink->Publish(records).ok());
  const Status committed = sink->Commit({});
  ASSERT_FALSE(committed.ok());
  EXPECT_EQ(committed.error().code(), ErrorCode::kIo);
  EXPECT_THAT(committed.error().message(), HasSubstr(options_.recommendations_topic));
  EXPECT_THAT(committed.error().message(), HasSubstr("Message size too large"));
  EXPECT_FALSE(sink->Publish(records).ok());
}

TEST_F(KafkaSinkTest, AMissingTopicIsNamed) {
  options_.recommendations_topic = UniqueName("nowhere");
  options_.properties["topic.metadata.propagation.max.ms"] = "500";
  const auto sink = Make();
  const std::vector<OutputRecord> records = {{Stream::kRecommendations, "u", "v", {}}};
  ASSERT_TRUE(sink->Publish(records).ok());
  const Status committed = sink->Commit({});
  ASSERT_FALSE(committed.ok());
  EXPECT_THAT(committed.error().message(), HasSubstr(options_.recommendations_topic));
}

TEST_F(KafkaSinkTest, AbortThrowsAwayWhatIsStillHereAndTheSinkGoesOn) {
  options_.properties["linger.ms"] = "60000";
  const auto sink = Make();
  ASSERT_TRUE(sink->Publish(std::vector<OutputRecord>{{Stream::kRecommendations, "u", "aborted", {}}}).ok());
  ASSERT_TRUE(sink->Abort().ok());
  PublishAndCommit(*sink, {{Stream::kRecommendations, "u", "kept", {}}});
  const auto records = broker_.Read(options_.recommendations_topic);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].value, "kept");
}

}  // namespace
}  // namespace freshet
