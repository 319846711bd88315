#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/store_listener.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

KafkaOptions Options(const std::string& address) {
  KafkaOptions options;
  options.application = UniqueName("group");
  options.bootstrap_servers = address;
  options.source_topic = "in";
  options.recommendations_topic = "out";
  options.dead_letters_topic = "dead";
  return options;
}

bool NeverWait(const std::string& reason) {
  ADD_FAILURE() << "waits: " << reason;
  return false;
}

TEST(KafkaSetup, TopicsThatExistAreFine) {
  TestBroker& broker = TestBroker::Shared();
  KafkaOptions options = Options(broker.address());
  options.source_topic = broker.NewTopic("in", 1);
  options.recommendations_topic = broker.NewTopic("out", 1);
  options.dead_letters_topic = broker.NewTopic("dead", 1);
  const Status status = CheckTopics(options, NeverWait);
  EXPECT_TRUE(status.ok()) << status.error().message();
}

TEST(KafkaSetup, MissingTopicsAreNamedWithTheCommandThatMakesThem) {
  TestBroker& broker = TestBroker::Shared();
  KafkaOptions options = Options(broker.address());
  options.source_topic = broker.NewTopic("present", 1);
  options.recommendations_topic = UniqueName("missing-out");
  options.dead_letters_topic = UniqueName("missing-dead");
  const Status status = CheckTopics(options, NeverWait);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.error().message(),
              AllOf(HasSubstr(options.recommendations_topic + ", " + options.dead_letters_topic),
                    Not(HasSubstr(options.source_topic)),
                    HasSubstr("kafka-topics.sh --bootstrap-server " + broker.address() + " --create --topic " +
                              options.recommendations_topic)));
  // Looking for them made none.
  EXPECT_FALSE(CheckTopics(options, NeverWait).ok());
}

class SnapshotTopicTest : public testing::Test {
 protected:
  SnapshotTopicTest() { options_.snapshots_topic = UniqueName("snapshots"); }
  std::string Refused(int partitions) {
    const auto made = MakeSnapshotTopic(options_, partitions, NeverWait);
    EXPECT_FALSE(made.ok());
    if (made.ok()) return "";
    EXPECT_EQ(made.error().code(), ErrorCode::kInvalidArgument);
    return made.error().message();
  }

  TestBroker& broker_ = TestBroker::Shared();
  KafkaOptions options_ = Options(broker_.address());
};

TEST_F(SnapshotTopicTest, IsMadeAndThenKnownWithItsEmptyPartitions) {
  const auto made = MakeSnapshotTopic(options_, 3, [](const std::string&) { return true; });  // its leaders are chosen
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_THAT(*made, testing::ElementsAre(PartitionId{0}, PartitionId{1}, PartitionId{2}));
  broker_.ProduceNumbers(options_.snapshots_topic, 1, 0, 1);
  const auto found = MakeSnapshotTopic(options_, 3, NeverWait);
  ASSERT_TRUE(found.ok()) << found.error().message() << " (it was made compacted)";
  EXPECT_THAT(*found, testing::ElementsAre(PartitionId{0}, PartitionId{2}));
  EXPECT_THAT(Refused(4), HasSubstr(options_.snapshots_topic + " has 3 partitions, expected 4"));
}

TEST_F(SnapshotTopicTest, ThatDeletesUsersIsRefused) {
  for (const std::string policy : {"delete", "compact,delete"}) {
    options_.snapshots_topic = broker_.NewTopic("snapshots", 1, {{"cleanup.policy", policy}});
    EXPECT_THAT(Refused(1),
                AllOf(HasSubstr("snapshots.topic: " + options_.snapshots_topic + " has cleanup.policy=" + policy +
                                ", expected compact"),
                      HasSubstr("kafka-configs.sh --bootstrap-server " + broker_.address() + " --alter"),
                      HasSubstr("--entity-name " + options_.snapshots_topic + " --add-config cleanup.policy=compact")));
  }
}

TEST(KafkaSetup, ATopicWithoutANameIsNotAskedFor) {
  KafkaOptions options = Options(TestBroker::Shared().address());
  options.source_topic = TestBroker::Shared().NewTopic("in", 1);
  options.recommendations_topic = options.dead_letters_topic = "";
  EXPECT_TRUE(CheckTopics(options, NeverWait).ok());
}

TEST(KafkaSetup, AGroupWithMembersRuns) {
  KafkaOptions options = Options(TestBroker::Shared().address());
  options.source_topic = TestBroker::Shared().NewTopic("in", 1);
  EXPECT_TRUE(CheckNobodyRuns(options, NeverWait).ok()) << "no such group";
  const auto source = MakeKafkaSource(options).value();
  StoreListener listener;
  ASSERT_TRUE(source->Open(listener).ok());
  RecordBatch batch;
  while (listener.assigned.empty()) ASSERT_TRUE(source->Poll(batch, 1, std::chrono::milliseconds(100)).ok());
  const Status status = CheckNobodyRuns(options, NeverWait);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(status.error().message(), AllOf(HasSubstr("\"" + options.application + "\" runs"), HasSubstr("1 member,"),
                                              HasSubstr("sink.topic")));
  ASSERT_TRUE(source->Close().ok());
  EXPECT_TRUE(CheckNobodyRuns(options, NeverWait).ok()) << "it left";
}

TEST(KafkaSetup, WaitsForABrokerThatIsDownUntilToldNotTo) {
  std::vector<std::string> reasons;
  const auto began = std::chrono::steady_clock::now();
  const Status status = CheckTopics(Options("127.0.0.1:1"), [&](const std::string& reason) {
    reasons.push_back(reason);
    return reasons.size() < 3;
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(reasons.size(), 3u);
  EXPECT_THAT(reasons.back(), AllOf(HasSubstr("127.0.0.1:1"), HasSubstr("refused")));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
}

TEST(KafkaSetup, PropertiesGoToLibrdkafkaVerbatimAndItsRefusalNamesTheKey) {
  struct Case {
    std::string name;
    std::string value;
    std::string expected;
  };
  for (const Case& test :
       {Case{"no.such.property", "1", "kafka.properties.no.such.property: No such configuration property"},
        Case{"session.timeout.ms", "soon", "kafka.properties.session.timeout.ms: Invalid value"},
        Case{"session.timeout.ms", "-5", "kafka.properties.session.timeout.ms: "},
        Case{"security.protocol", "carrier_pigeon", "kafka.properties.security.protocol: Invalid value"},
        Case{"enable.auto.commit", "true", "kafka.properties.enable.auto.commit: freshet decides this itself"},
        Case{"auto.offset.reset", "latest", "source.on_offset_gap"}}) {
    KafkaOptions options = Options("127.0.0.1:1");
    options.properties[test.name] = test.value;
    const auto source = MakeKafkaSource(options);
    const auto sink = MakeKafkaSink(options);
    ASSERT_FALSE(source.ok()) << test.name;
    ASSERT_FALSE(sink.ok()) << test.name;
    EXPECT_EQ(source.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(source.error().message(), HasSubstr(test.expected));
    EXPECT_THAT(sink.error().message(), HasSubstr(test.expected));
  }
  KafkaOptions contradiction = Options("127.0.0.1:1");
  contradiction.properties["acks"] = "1";
  const auto sink = MakeKafkaSink(contradiction);
  ASSERT_FALSE(sink.ok());
  EXPECT_THAT(sink.error().message(), AllOf(HasSubstr("kafka.properties"), HasSubstr("acks")));
}

TEST(KafkaSetup, AStartThatIsNoTimeIsRefused) {
  KafkaOptions options = Options("127.0.0.1:1");
  options.start = "yesterday";
  const auto source = MakeKafkaSource(options);
  ASSERT_FALSE(source.ok());
  EXPECT_THAT(source.error().message(), HasSubstr("source.start: \"yesterday\""));
}

TEST(KafkaSetup, TheDescriptionNamesVersionAndAssignor) {
  EXPECT_THAT(KafkaClientDescription(), AllOf(HasSubstr("librdkafka "), HasSubstr("assignor")));
}

}  // namespace
}  // namespace freshet
