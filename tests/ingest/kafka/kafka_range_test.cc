// A range of a topic: what it means, and that reading it ends where it should.
#include "ingest/kafka_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/ingest/kafka/store_listener.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr PartitionId kFirst{0};
constexpr PartitionId kSecond{1};

PartitionRange Part(int32_t partition, int64_t begin, int64_t end) {
  return {PartitionId{partition}, Offset{begin}, Offset{end}};
}

class KafkaRangeTest : public testing::Test {
 protected:
  void NewTopic(int partitions, const std::map<std::string, std::string>& settings = {}) {
    options_.application = UniqueName("range");
    options_.bootstrap_servers = broker_->address();
    options_.source_topic = broker_->NewTopic("range", partitions, settings);
    options_.properties = {{"reconnect.backoff.max.ms", "500"}};
  }

  TopicRange Settle(const std::string& from, const std::string& to) {
    // A leader of a new topic may need a moment.
    const auto range = SettleRange(options_, from, to, [](const std::string&) { return true; });
    EXPECT_TRUE(range.ok()) << range.error().message();
    return range.ok() ? *range : TopicRange();
  }

  std::unique_ptr<EventSource> Open(const TopicRange& range, int worker = 0, int workers = 1) {
    auto source = MakeKafkaRangeSource(options_, range, worker, workers, commit_log_.get());
    EXPECT_TRUE(source.ok()) << source.error().message();
    EXPECT_TRUE((*source)->Open(listener_).ok());
    return std::move(source).value();
  }

  // Polls once; what comes goes to values_ and positions_.
  Result<PollState> Poll(EventSource& source, size_t max_records = 100) {
    RecordBatch batch;
    auto state = source.Poll(batch, max_records, milliseconds(100));
    for (const RawRecord& record : batch.records) values_[record.partition].emplace_back(record.value);
    for (const PartitionPosition& position : batch.positions) positions_[position.partition] = position.next;
    return state;
  }

  // Polls to the end, at most two minutes.
  Status Drain(EventSource& source) {
    const auto until = steady_clock::now() + seconds(120);
    while (steady_clock::now() < until) {
      ASSIGN_OR_RETURN(const PollState state, Poll(source));
      if (state == PollState::kEnd) return {};
    }
    return Error(ErrorCode::kInternal, "the end does not come");
  }

  // Reads the whole range.
  std::vector<std::string> Read(const TopicRange& range, PartitionId partition = kFirst) {
    values_.clear();
    positions_.clear();
    const auto source = Open(range);
    const Status drained = Drain(*source);
    EXPECT_TRUE(drained.ok()) << drained.error().message();
    EXPECT_EQ(source->Progress(), 1.0);
    EXPECT_TRUE(source->Close().ok());
    for (const PartitionRange& part : range) EXPECT_EQ(positions_[part.partition], part.end);
    return values_[partition];
  }

  TestBroker* broker_ = &TestBroker::Shared();
  KafkaOptions options_;
  std::unique_ptr<CommitLog> commit_log_ = CommitLog::Open({}, {}).value();
  StoreListener listener_;
  std::map<PartitionId, std::vector<std::string>> values_;
  std::map<PartitionId, Offset> positions_;
};

TEST_F(KafkaRangeTest, ATimeMeansTheFirstRecordFromThenOn) {
  NewTopic(2);
  // A second apart from 2017-07-14T02:40:00Z on.
  broker_->Produce(options_.source_topic, 0, {{"k", "a"}, {"k", "b"}, {"k", "c"}, {"k", "d"}});
  broker_->Produce(options_.source_topic, 1, {{"k", "e"}}, 1500000000000);
  EXPECT_THAT(Settle("earliest", "latest"), ElementsAre(Part(0, 0, 4), Part(1, 0, 1)));
  EXPECT_THAT(Settle("2017-07-14T02:40:01Z", "2017-07-14T02:40:02.5Z"), ElementsAre(Part(0, 1, 3), Part(1, 1, 1)));
  EXPECT_THAT(Settle("2017-07-14", "2099-01-01"), ElementsAre(Part(0, 0, 4), Part(1, 0, 1)));
  EXPECT_THAT(Settle("latest", "latest"), ElementsAre(Part(0, 4, 4), Part(1, 1, 1)));
  // A beginning behind the end is an empty range.
  EXPECT_THAT(Settle("latest", "2017-07-14T02:40:02Z"), ElementsAre(Part(0, 2, 2), Part(1, 1, 1)));
  EXPECT_THAT(Read(Settle("2017-07-14T02:40:01Z", "2017-07-14T02:40:03Z")), ElementsAre("b", "c"));
}

TEST_F(KafkaRangeTest, WhatComesLaterIsNotRead) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 3);
  const TopicRange range = Settle("earliest", "latest");
  broker_->ProduceNumbers(options_.source_topic, 0, 3, 3);
  EXPECT_THAT(Read(range), ElementsAre("0", "1", "2"));
}

TEST_F(KafkaRangeTest, AnEmptyRangeEndsAtOnce) {
  NewTopic(2);
  EXPECT_THAT(Read(Settle("earliest", "latest")), IsEmpty());
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 3);
  EXPECT_THAT(Read(Settle("latest", "latest")), IsEmpty());
}

TEST_F(KafkaRangeTest, TransactionsAtTheEndAreReadOver) {
  NewTopic(1);
  const std::string& topic = options_.source_topic;
  broker_->ProduceTransaction(topic, 0, 0, 2, true);   // offsets 0, 1, marker 2
  broker_->ProduceTransaction(topic, 0, 7, 2, false);  // 3, 4, marker 5
  while (Settle("earliest", "latest").front().end < Offset{6}) std::this_thread::sleep_for(milliseconds(50));
  const TopicRange range = Settle("earliest", "latest");
  EXPECT_THAT(range, ElementsAre(Part(0, 0, 6)));
  EXPECT_THAT(Read(range), ElementsAre("0", "1"));
  // The same where the log goes on behind the range.
  broker_->ProduceNumbers(topic, 0, 9, 1);
  EXPECT_THAT(Read(range), ElementsAre("0", "1"));
}

TEST_F(KafkaRangeTest, WhatCompactionTookIsReadOver) {
  NewTopic(1, {{"cleanup.policy", "compact"}, {"segment.ms", "100"}, {"min.cleanable.dirty.ratio", "0.01"}});
  const std::string& topic = options_.source_topic;
  int64_t time_ms = 1500000000000;
  // Each record begins a segment, by its time; only the newest one is never compacted.
  const auto produce = [&] { broker_->Produce(topic, 0, {{"k", "v"}}, time_ms += 1000); };
  for (int record = 0; record < 5; ++record) produce();
  const TopicRange range = Settle("earliest", "latest");
  const auto until = steady_clock::now() + seconds(180);
  while (broker_->Read(topic).front().offset < 5) {
    ASSERT_LT(steady_clock::now(), until) << "the broker does not compact";
    produce();
    std::this_thread::sleep_for(seconds(1));
  }
  EXPECT_THAT(Read(range), IsEmpty());
}

TEST_F(KafkaRangeTest, GoesOnWhereTheStateIsAndSaysWhatIsPublished) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 6);
  const TopicRange range = Settle("earliest", "latest");
  listener_.stored[kFirst] = Offset{2};
  ASSERT_TRUE(commit_log_->Commit(std::vector<PartitionPosition>{{kFirst, Offset{4}}}, {}).ok());
  EXPECT_THAT(Read(range), ElementsAre("2", "3", "4", "5"));
  EXPECT_EQ(listener_.assigned.at(kFirst).committed, Offset{4});
  // It joined no group and committed nothing there.
  EXPECT_EQ(broker_->Committed(options_.application, options_.source_topic, 0), std::nullopt);
}

TEST_F(KafkaRangeTest, StateAheadOfTheCommitLogNeedsADecision) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 6);
  listener_.stored[kFirst] = Offset{5};
  ASSERT_TRUE(commit_log_->Commit(std::vector<PartitionPosition>{{kFirst, Offset{4}}}, {}).ok());
  const auto source = Open(Settle("earliest", "latest"));
  const Status drained = Drain(*source);
  ASSERT_FALSE(drained.ok());
  EXPECT_EQ(drained.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(drained.error().message(), HasSubstr("partition 0 is committed up to 4, its state is at 5"));
}

TEST_F(KafkaRangeTest, PartitionsAreSpreadOverWorkers) {
  NewTopic(3);
  for (int partition = 0; partition < 3; ++partition) {
    broker_->ProduceNumbers(options_.source_topic, partition, 10 * partition, 2);
  }
  const TopicRange range = Settle("earliest", "latest");
  const auto second = Open(range, 1, 2);
  ASSERT_TRUE(Drain(*second).ok());
  EXPECT_EQ(values_, (std::map<PartitionId, std::vector<std::string>>{{kSecond, {"10", "11"}}}));
  const auto idle = Open(range, 3, 4);
  EXPECT_EQ(Poll(*idle).value(), PollState::kEnd);
  EXPECT_TRUE(second->Close().ok());
  EXPECT_TRUE(idle->Close().ok());
}

TEST_F(KafkaRangeTest, ProgressIsTheShareOfTheRange) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 8);
  const auto source = Open({Part(0, 4, 8)});
  while (values_[kFirst].empty()) ASSERT_TRUE(Poll(*source, 1).ok());
  EXPECT_EQ(source->Progress(), 0.25);
  EXPECT_TRUE(source->Close().ok());
}

TEST_F(KafkaRangeTest, WhatRetentionTookNeedsADecision) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 10);
  const TopicRange range = Settle("earliest", "latest");
  broker_->DeleteRecords(options_.source_topic, 0, 7);
  listener_.stored[kFirst] = Offset{3};
  const auto source = Open(range);
  const Status drained = Drain(*source);
  ASSERT_FALSE(drained.ok());
  EXPECT_EQ(drained.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(drained.error().message(),
              AllOf(HasSubstr(options_.source_topic + "[0]: input begins at offset 7, the range goes on at 3"),
                    HasSubstr("state.directory")));
  EXPECT_THAT(values_[kFirst], IsEmpty());
  // Where that part was read before, nothing is missing.
  listener_.stored[kFirst] = Offset{7};
  EXPECT_THAT(Read(range), ElementsAre("7", "8", "9"));
}

TEST_F(KafkaRangeTest, RetentionWhileReadingNeedsADecision) {
  NewTopic(1);
  options_.properties["queued.min.messages"] = "1";
  options_.properties["fetch.message.max.bytes"] = "1000";
  const std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>> records(
      40, {"k", std::string(1000, 'x')});
  broker_->Produce(options_.source_topic, 0, records);
  const auto source = Open(Settle("earliest", "latest"));
  while (values_[kFirst].empty()) ASSERT_TRUE(Poll(*source, 1).ok());
  broker_->DeleteRecords(options_.source_topic, 0, 39);
  const Status drained = Drain(*source);
  ASSERT_FALSE(drained.ok());
  EXPECT_EQ(drained.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(drained.error().message(), HasSubstr("input begins at offset 39, the range goes on at "));
}

TEST_F(KafkaRangeTest, ASnapshotThatIsCutWhileItIsReadSaysSo) {
  NewTopic(1);
  options_.snapshots_topic = options_.source_topic;
  options_.properties["queued.min.messages"] = "1";
  options_.properties["fetch.message.max.bytes"] = "1000";
  const std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>> records(
      40, {"k", std::string(1000, 'x')});
  broker_->Produce(options_.snapshots_topic, 0, records);
  const auto source = ReadSnapshot(options_, kFirst).value();
  ASSERT_TRUE(source->Open(listener_).ok());
  while (values_[kFirst].empty()) ASSERT_TRUE(Poll(*source, 1).ok());
  broker_->DeleteRecords(options_.snapshots_topic, 0, 39);
  const Status drained = Drain(*source);
  ASSERT_FALSE(drained.ok());
  EXPECT_EQ(drained.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(drained.error().message(),
              AllOf(HasSubstr("snapshots.topic: " + options_.snapshots_topic + "[0]: the snapshot begins at offset 39"),
                    HasSubstr("would lack users"), testing::Not(HasSubstr("input begins"))));
}

TEST_F(KafkaRangeTest, AnEndBeyondTheLogNeedsADecision) {
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 3);
  const auto source = Open({Part(0, 0, 9)});
  const Status drained = Drain(*source);
  ASSERT_FALSE(drained.ok());
  EXPECT_EQ(drained.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(drained.error().message(), HasSubstr("[0]: input ends at offset 3, the range ends at 9"));
}

TEST_F(KafkaRangeTest, BrokersThatGoAndComeBackAreWaitedFor) {
  const std::unique_ptr<TestBroker> own = TestBroker::Own();
  broker_ = own.get();
  NewTopic(1);
  broker_->ProduceNumbers(options_.source_topic, 0, 0, 5);
  const TopicRange range = Settle("earliest", "latest");
  const auto source = Open(range);
  broker_->Stop();
  for (int polls = 0; polls < 5; ++polls) ASSERT_EQ(Poll(*source).value(), PollState::kMore);
  broker_->Start();
  const Status drained = Drain(*source);
  ASSERT_TRUE(drained.ok()) << drained.error().message();
  EXPECT_THAT(values_[kFirst], ElementsAre("0", "1", "2", "3", "4"));
  EXPECT_TRUE(source->Close().ok());
}

TEST(TopicRangeText, ComesBackAsItWas) {
  const TopicRange range = {Part(0, 12, 400), Part(1, 0, 0)};
  EXPECT_EQ(ToText(range), "0:12-400 1:0-0");
  EXPECT_EQ(ParseTopicRange(ToText(range)).value(), range);
  for (const char* wrong :
       {"", "x", "0:1", "0:1-", "0:5-4", "-1:0-1", "0:1-2 ", "0:1-2 1", "0:1-2,1:0-1", "9e9:0-1", "9999999999:0-1"}) {
    const auto parsed = ParseTopicRange(wrong);
    ASSERT_FALSE(parsed.ok()) << wrong;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kCorrupt) << wrong;
  }
}

TEST(TopicRangeText, FromAndToAreCheckedBeforeAnythingIsAsked) {
  for (const auto& [from, to] : {std::pair("earliest", "latest"), std::pair("2026-01-01", "2026-01-02T03:04:05Z"),
                                 std::pair("latest", "2026-01-01"), std::pair("earliest", "earliest")}) {
    EXPECT_TRUE(CheckRange(from, to).ok()) << from << " " << to;
  }
  const auto message = [](const std::string& from, const std::string& to) {
    const Status status = CheckRange(from, to);
    EXPECT_FALSE(status.ok()) << from << " " << to;
    return status.ok() ? "" : status.error().message();
  };
  EXPECT_THAT(message("yesterday", "latest"), HasSubstr("--from: \"yesterday\": expected earliest, latest"));
  EXPECT_THAT(message("earliest", "soon"), HasSubstr("--to: \"soon\""));
  EXPECT_THAT(message("2026-01-02", "2026-01-01"), HasSubstr("expected --from before --to"));
  EXPECT_THAT(message("latest", "earliest"), HasSubstr("expected --from before --to"));
}

}  // namespace
}  // namespace freshet
