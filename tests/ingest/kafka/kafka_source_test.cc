#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/store_listener.h"
#include "tests/ingest/kafka/test_broker.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr PartitionId kFirst{0};

std::vector<std::string> Numbers(int first, int end) {
  std::vector<std::string> numbers;
  for (int number = first; number < end; ++number) numbers.push_back(std::to_string(number));
  return numbers;
}

// A consumer with its listener, and what it read.
struct Member {
  StoreListener listener;
  std::unique_ptr<EventSource> source;
  RecordBatch batch;
  std::map<PartitionId, std::vector<std::string>> values;
  std::map<PartitionId, Offset> positions;

  explicit Member(const KafkaOptions& options) {
    auto made = MakeKafkaSource(options);
    EXPECT_TRUE(made.ok()) << made.error().message();
    source = std::move(made).value();
    const Status opened = source->Open(listener);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
  }

  Status PollOnce(size_t max_records = 100, milliseconds wait = milliseconds(100)) {
    batch.Clear();
    const auto polled = source->Poll(batch, max_records, wait);
    if (!polled.ok()) return polled.error();
    for (const RawRecord& record : batch.records) values[record.partition].emplace_back(record.value);
    for (const PartitionPosition& position : batch.positions) positions[position.partition] = position.next;
    return {};
  }

  // Polls until `done`; gives up after a minute.
  Status PollUntil(const std::function<bool()>& done, size_t max_records = 100) {
    const auto until = steady_clock::now() + seconds(60);
    while (!done()) {
      if (steady_clock::now() > until) return Error(ErrorCode::kInternal, "the test waits in vain");
      RETURN_IF_ERROR(PollOnce(max_records));
    }
    return {};
  }

  // Polls until the position of `partition` is `next`.
  Status PollTo(PartitionId partition, int64_t next) {
    return PollUntil([&] { return positions.count(partition) != 0 && positions[partition] >= Offset{next}; });
  }
};

class KafkaSourceTest : public testing::Test {
 protected:
  KafkaOptions OptionsFor(const std::string& topic) {
    KafkaOptions options;
    options.application = UniqueName("group");
    options.bootstrap_servers = broker_.address();
    options.source_topic = topic;
    options.properties = {{"session.timeout.ms", "6000"}, {"heartbeat.interval.ms", "500"}};
    return options;
  }

  TestBroker& broker_ = TestBroker::Shared();
};

#define ASSERT_OK(expression)                       \
  do {                                              \
    const Status ok_ = (expression);                \
    ASSERT_TRUE(ok_.ok()) << ok_.error().message(); \
  } while (false)

TEST_F(KafkaSourceTest, DeliversKeysAndValuesByteForByteAndInOrder) {
  const std::string topic = broker_.NewTopic("bytes", 1);
  const std::string binary("\0\xff\n{\"", 5);
  broker_.Produce(
      topic, 0,
      {{"k", "v"}, {std::nullopt, binary}, {binary, std::nullopt}, {"", ""}, {"big", std::string(900000, 'x')}});
  Member member(OptionsFor(topic));
  std::vector<std::pair<std::string, std::string>> read;
  while (read.size() < 5) {
    member.batch.Clear();
    ASSERT_TRUE(member.source->Poll(member.batch, 2, seconds(10)).ok());
    ASSERT_LE(member.batch.records.size(), 2u);
    for (const RawRecord& record : member.batch.records) {
      EXPECT_EQ(record.topic, topic);
      EXPECT_EQ(record.partition, kFirst);
      EXPECT_EQ(record.shown_partition, kFirst);
      EXPECT_EQ(Raw(record.offset), static_cast<int64_t>(read.size()));
      EXPECT_EQ(record.shown_offset, record.offset);
      EXPECT_EQ(record.key.data() == nullptr, read.size() == 1);
      EXPECT_EQ(record.value.data() == nullptr, read.size() == 2);
      read.emplace_back(record.key, record.value);
    }
  }
  EXPECT_THAT(read, ElementsAre(std::pair("k", "v"), std::pair("", binary), std::pair(binary, ""), std::pair("", ""),
                                std::pair("big", std::string(900000, 'x'))));
  ASSERT_OK(member.source->Close());
  EXPECT_THAT(member.listener.revoked, ElementsAre(std::pair(kFirst, false)));
}

TEST_F(KafkaSourceTest, NothingToReadIsAnEmptyBatchWithinTheWait) {
  Member member(OptionsFor(broker_.NewTopic("empty", 1)));
  ASSERT_OK(member.PollUntil([&] { return !member.listener.assigned.empty(); }));
  const auto began = steady_clock::now();
  ASSERT_OK(member.PollOnce(100, milliseconds(200)));
  EXPECT_LT(steady_clock::now() - began, seconds(5));
  EXPECT_TRUE(member.batch.records.empty());
  EXPECT_TRUE(member.batch.positions.empty());
}

TEST_F(KafkaSourceTest, ReadsOnAtTheStoresPositionAndTellsWhatIsAnswered) {
  const std::string topic = broker_.NewTopic("resume", 1);
  broker_.ProduceNumbers(topic, 0, 0, 10);
  const KafkaOptions options = OptionsFor(topic);
  {
    Member member(options);
    ASSERT_OK(member.PollTo(kFirst, 10));
    EXPECT_EQ(member.listener.assigned.at(kFirst).committed, std::nullopt);
    ASSERT_OK(member.source->Commit(std::vector<PartitionPosition>{{kFirst, Offset{7}}}));
    ASSERT_OK(member.source->Close());
  }
  EXPECT_EQ(broker_.Committed(options.application, topic, 0), 7);
  Member member(options);
  member.listener.stored[kFirst] = Offset{4};
  ASSERT_OK(member.PollTo(kFirst, 10));
  EXPECT_EQ(member.listener.assigned.at(kFirst).committed, Offset{7});
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(4, 10)));
}

TEST_F(KafkaSourceTest, WithoutStateReadsFromTheStartButNotBehindTheCommittedOffset) {
  const std::string topic = broker_.NewTopic("start", 1);
  broker_.ProduceNumbers(topic, 0, 0, 10);  // times 2017-07-14T02:40:00Z and a second later each
  struct Case {
    const char* start;
    std::optional<int64_t> committed;
    int expected;
  };
  for (const Case& test : {Case{"earliest", std::nullopt, 0}, Case{"earliest", 6, 0}, Case{"latest", std::nullopt, 10},
                           Case{"latest", 6, 6}, Case{"2017-07-14T02:40:03Z", std::nullopt, 3},
                           Case{"2017-07-14T02:40:08Z", 6, 6}, Case{"2030-01-01T00:00:00Z", std::nullopt, 10}}) {
    SCOPED_TRACE(std::string(test.start) + (test.committed ? ", committed" : ""));
    KafkaOptions options = OptionsFor(topic);
    options.start = test.start;
    if (test.committed) broker_.Commit(options.application, topic, 0, *test.committed);
    Member member(options);
    ASSERT_OK(member.PollUntil([&] { return !member.listener.assigned.empty(); }));
    if (test.expected < 10) {
      ASSERT_OK(member.PollTo(kFirst, 10));
    }
    for (int i = 0; i < 3; ++i) ASSERT_OK(member.PollOnce());
    EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(test.expected, 10)));
    EXPECT_EQ(member.listener.assigned.at(kFirst).committed.has_value(), test.committed.has_value());
  }
}

TEST_F(KafkaSourceTest, ControlRecordsMoveThePositionAndAbortedOnesAreNotDelivered) {
  const std::string topic = broker_.NewTopic("transactions", 1);
  broker_.ProduceTransaction(topic, 0, 0, 3, true);
  broker_.ProduceTransaction(topic, 0, 100, 3, false);
  broker_.ProduceTransaction(topic, 0, 3, 2, true);
  Member member(OptionsFor(topic));
  ASSERT_OK(member.PollTo(kFirst, broker_.End(topic, 0)));
  // The broker writes the last transaction's marker after the producer was told: the end may move once more.
  ASSERT_OK(member.PollUntil([&] { return member.source->Lag() == std::vector{std::pair(kFirst, int64_t{0})}; }));
  EXPECT_EQ(member.positions[kFirst], Offset{broker_.End(topic, 0)});
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(0, 5)));
}

TEST_F(KafkaSourceTest, LagIsWhatTheInputHoldsBeyondTheDelivered) {
  const std::string topic = broker_.NewTopic("lag", 1);
  broker_.ProduceNumbers(topic, 0, 0, 10);
  Member member(OptionsFor(topic));
  ASSERT_OK(member.PollUntil([&] { return member.values[kFirst].size() >= 4; }, 4));
  EXPECT_THAT(member.source->Lag(), ElementsAre(std::pair(kFirst, 6)));
}

class KafkaRebalanceTest : public KafkaSourceTest, public testing::WithParamInterface<const char*> {};

TEST_P(KafkaRebalanceTest, PartitionsMoveAndNoRecordIsLostOrReordered) {
  constexpr int kPartitions = 4;
  constexpr int kRecords = 500;
  const std::string topic = broker_.NewTopic("rebalance", kPartitions);
  for (int partition = 0; partition < kPartitions; ++partition) broker_.ProduceNumbers(topic, partition, 0, kRecords);
  KafkaOptions options = OptionsFor(topic);
  options.properties["partition.assignment.strategy"] = GetParam();

  Member first(options);
  const auto commit_all = [](Member& member) {
    std::vector<PartitionPosition> positions;
    for (const auto& [partition, next] : member.positions) {
      if (member.listener.current.count(partition) != 0) positions.push_back({partition, next});
    }
    return member.source->Commit(positions);
  };
  ASSERT_OK(first.PollUntil([&] { return first.values.size() == 4; }, 50));
  EXPECT_EQ(first.listener.current.size(), 4u);
  ASSERT_OK(commit_all(first));

  // What the pipeline does: a revoked partition is committed while it is still ours. Its state goes along here.
  std::map<PartitionId, Offset> stored;
  const auto give_up = [&](Member& member) {
    return [&](PartitionId partition, bool lost) {
      EXPECT_FALSE(lost);
      if (member.positions.count(partition) == 0) return Status();
      stored[partition] = member.positions[partition];
      return member.source->Commit(std::vector<PartitionPosition>{{partition, stored[partition]}});
    };
  };
  const auto take_up = [&](Member& member) {
    return [&](const Assignment& assignment) {
      if (stored.count(assignment.partition) != 0) {
        EXPECT_EQ(assignment.committed, stored[assignment.partition]);
        member.listener.stored[assignment.partition] = member.positions[assignment.partition] =
            stored[assignment.partition];
      }
      return Status();
    };
  };
  Member second(options);
  for (Member* member : {&first, &second}) {
    member->listener.on_revoked = give_up(*member);
    member->listener.on_assigned = take_up(*member);
  }
  const auto start = steady_clock::now();
  while (first.listener.current.size() != 2 || second.listener.current.size() != 2) {
    ASSERT_LT(steady_clock::now() - start, seconds(60));
    ASSERT_OK(first.PollOnce(10, milliseconds(20)));
    ASSERT_OK(second.PollOnce(10, milliseconds(20)));
  }
  std::set<PartitionId> owned = first.listener.current;
  owned.insert(second.listener.current.begin(), second.listener.current.end());
  EXPECT_EQ(owned.size(), 4u);
  for (Member* member : {&first, &second}) {
    for (const PartitionId partition : std::set(member->listener.current))
      ASSERT_OK(member->PollTo(partition, kRecords));
  }
  // Each partition's values are one or two runs in order, the second beginning where the first was committed.
  for (int partition = 0; partition < kPartitions; ++partition) {
    std::vector<std::string> values = first.values[PartitionId{partition}];
    const auto& after = second.values[PartitionId{partition}];
    values.insert(values.end(), after.begin(), after.end());
    EXPECT_THAT(values, ElementsAreArray(Numbers(0, kRecords))) << "partition " << partition;
  }
  // The last member takes everything back.
  ASSERT_OK(commit_all(second));
  ASSERT_OK(second.source->Close());
  ASSERT_OK(first.PollUntil([&] { return first.listener.current.size() == 4; }));
}

INSTANTIATE_TEST_SUITE_P(Assignors, KafkaRebalanceTest, testing::Values("range,roundrobin", "cooperative-sticky"),
                         [](const auto& test) { return std::string(test.param[0] == 'r' ? "Eager" : "Cooperative"); });

// librdkafka forgets a loss with the next assignment that it is told of, for instance that of a partition whose state
// is there at last. The listener must not: it would commit what is somebody else's by now.
TEST_P(KafkaRebalanceTest, ALossIsNotForgottenWhenAPartitionIsTakenUpMeanwhile) {
  const std::string topic = broker_.NewTopic("lost", 2);
  broker_.ProduceNumbers(topic, 0, 0, 10);
  KafkaOptions options = OptionsFor(topic);
  options.properties["partition.assignment.strategy"] = GetParam();
  options.properties["max.poll.interval.ms"] = "6000";
  bool ready = false;
  Member member(options);
  member.listener.on_assigned = [&](const Assignment& assignment) -> Status {
    if (assignment.partition == kFirst || ready) return {};
    return Error(ErrorCode::kUnavailable, "not yet");
  };
  ASSERT_OK(member.PollTo(kFirst, 10));
  std::this_thread::sleep_for(seconds(8));  // the group goes on without it
  ready = true;
  ASSERT_OK(member.PollUntil([&] { return !member.listener.revoked.empty(); }));
  EXPECT_THAT(member.listener.revoked,
              testing::UnorderedElementsAre(std::pair(kFirst, true), std::pair(PartitionId{1}, true)));
  ASSERT_OK(member.PollUntil([&] { return member.listener.current.size() == 2; }));
  ASSERT_OK(member.source->Close());
  EXPECT_EQ(member.listener.revoked.back().second, false) << "it belongs to the group again";
}

// A transaction that came to nothing concerns what was read, not the restore of another partition.
TEST_P(KafkaRebalanceTest, ARewindLeavesPartitionsAloneThatWaitForTheirState) {
  const std::string topic = broker_.NewTopic("rewind", 2);
  for (const int partition : {0, 1}) broker_.ProduceNumbers(topic, partition, 0, 10);
  KafkaOptions options = OptionsFor(topic);
  options.properties["partition.assignment.strategy"] = GetParam();
  bool ready = false;
  Member member(options);
  member.listener.on_assigned = [&](const Assignment& assignment) -> Status {
    if (assignment.partition == kFirst || ready) return {};
    return Error(ErrorCode::kUnavailable, "not yet");
  };
  ASSERT_OK(member.PollTo(kFirst, 10));
  member.positions.clear();
  ASSERT_OK(member.source->Rewind());
  EXPECT_THAT(member.listener.revoked, ElementsAre(std::pair(kFirst, true)));
  ASSERT_OK(member.PollTo(kFirst, 10));
  ready = true;
  ASSERT_OK(member.PollTo(PartitionId{1}, 10));
  EXPECT_EQ(member.listener.revoked.size(), 1u);
  EXPECT_EQ(member.values[kFirst].size(), 20u) << "read again";
  EXPECT_THAT(member.values[PartitionId{1}], ElementsAreArray(Numbers(0, 10)));
}

TEST_F(KafkaSourceTest, TheLogTellsOnceWhyAPartitionWaitsForLong) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  const std::string topic = broker_.NewTopic("patience", 1);
  const auto until = steady_clock::now() + seconds(13);
  Member member(OptionsFor(topic));
  member.listener.on_assigned = [&](const Assignment&) -> Status {
    if (steady_clock::now() > until) return {};
    return Error(ErrorCode::kUnavailable, "the snapshot is far away");
  };
  const Status taken_up = member.PollUntil([&] { return !member.listener.assigned.empty(); });
  spdlog::set_default_logger(before);
  ASSERT_OK(taken_up);
  const std::string line = "kafka: " + topic + "[0] waits: the snapshot is far away";
  const size_t first = log.str().find(line);
  ASSERT_NE(first, std::string::npos) << log.str();
  EXPECT_EQ(log.str().find(line, first + 1), std::string::npos) << "only once";
}

// Without a state the input has to hold everything since the application began to read it.
TEST_F(KafkaSourceTest, AStateThatIsLostWithPartOfItsInputIsAGap) {
  const std::string topic = broker_.NewTopic("lost", 1);
  broker_.ProduceNumbers(topic, 0, 0, 20);
  broker_.DeleteRecords(topic, 0, 5);  // before the application begins: it never owed these
  KafkaOptions options = OptionsFor(topic);
  const auto read_and_commit = [&](Offset expected_begin) -> Status {
    Member member(options);
    RETURN_IF_ERROR(member.PollTo(kFirst, 20));
    EXPECT_EQ(member.values[kFirst].front(), std::to_string(Raw(expected_begin)));
    const PartitionPosition end{kFirst, Offset{20}};
    RETURN_IF_ERROR(member.source->Commit({&end, 1}));
    return member.source->Close();
  };
  ASSERT_OK(read_and_commit(Offset{5}));
  ASSERT_EQ(broker_.Committed(options.application, topic, 0), 20);
  ASSERT_OK(read_and_commit(Offset{5}));  // no state: silently from where it began

  broker_.DeleteRecords(topic, 0, 12);
  const Status lost = read_and_commit(Offset{12});
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_EQ(
      lost.error().message(),
      topic +
          "[0]: input begins at offset 12, the beginning of the state, which neither the disk nor a snapshot holds "
          "any more, is at 5: 7 events are gone. Decide with: freshet run ... --set source.on_offset_gap=rebuild "
          "(state begins anew) or =accept (goes on with what is there)");
  options.on_offset_gap = OffsetGapPolicy::kAccept;
  ASSERT_OK(read_and_commit(Offset{12}));
  options.on_offset_gap = OffsetGapPolicy::kFail;
  ASSERT_OK(read_and_commit(Offset{12}));  // decided once
}

TEST_F(KafkaSourceTest, OnePartitionMoreEndsIt) {
  const std::string topic = broker_.NewTopic("grows", 2);
  KafkaOptions options = OptionsFor(topic);
  options.source_partitions = 2;
  Member member(options);
  ASSERT_OK(member.PollUntil([&] { return member.listener.current.size() == 2; }));
  broker_.AddPartitions(topic, 3);
  const Status status = member.PollUntil([] { return false; });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(status.error().message(), testing::HasSubstr(topic + " has 3 partitions, and state was built from 2"));
  EXPECT_EQ(member.listener.current.size(), 2u) << "nothing is read of the new one";
}

class KafkaGapTest : public KafkaSourceTest {
 protected:
  // A topic of which offsets 0..11 are gone and 12..19 are there.
  void SetUp() override {
    topic_ = broker_.NewTopic("gap", 1);
    broker_.ProduceNumbers(topic_, 0, 0, 20);
    broker_.DeleteRecords(topic_, 0, 12);
    options_ = OptionsFor(topic_);
  }

  std::string Name() const { return topic_ + "[0]"; }

  // Reads with the store at `stored` until something happens.
  Status Run(Member& member, std::optional<Offset> stored) {
    if (stored) member.listener.stored[kFirst] = *stored;
    return member.PollTo(kFirst, 20);
  }

  std::string topic_;
  KafkaOptions options_;
};

TEST_F(KafkaGapTest, FailsWithTheDecisionThatIsNeeded) {
  Member member(options_);
  const Status status = Run(member, Offset{7});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_EQ(status.error().message(),
            Name() +
                ": input begins at offset 12, state is at 7: 5 events are gone. Decide with: freshet run ... "
                "--set source.on_offset_gap=rebuild (state begins anew) or =accept (goes on with what is there)");
  ASSERT_OK(member.source->Close());
  EXPECT_THAT(member.listener.revoked, ElementsAre(std::pair(kFirst, false)));
}

TEST_F(KafkaGapTest, AcceptGoesOnWhereTheInputBegins) {
  options_.on_offset_gap = OffsetGapPolicy::kAccept;
  Member member(options_);
  ASSERT_OK(Run(member, Offset{7}));
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(12, 20)));
  EXPECT_TRUE(member.listener.rebuilt.empty());
}

TEST_F(KafkaGapTest, RebuildEmptiesTheStateAndStartsAnew) {
  options_.on_offset_gap = OffsetGapPolicy::kRebuild;
  broker_.Commit(options_.application, topic_, 0, 15);
  Member member(options_);
  ASSERT_OK(Run(member, Offset{7}));
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(12, 20)));
  ASSERT_EQ(member.listener.rebuilt.size(), 1u);
  EXPECT_EQ(member.listener.rebuilt[0].committed, Offset{15});
}

TEST_F(KafkaGapTest, StateBeyondTheEndNeedsARebuild) {
  for (const auto policy : {OffsetGapPolicy::kFail, OffsetGapPolicy::kAccept}) {
    options_.on_offset_gap = policy;
    Member member(options_);
    const Status status = Run(member, Offset{31});
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code(), ErrorCode::kNeedsDecision);
    EXPECT_THAT(status.error().message(), HasSubstr("input ends at offset 20, state is at 31"));
  }
  options_.on_offset_gap = OffsetGapPolicy::kRebuild;
  Member member(options_);
  ASSERT_OK(Run(member, Offset{31}));
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(12, 20)));
}

// A log made anew may be longer than what was committed of the old one, and shorter than state: none of it is answered.
TEST_F(KafkaGapTest, AnotherLogsCommittedOffsetIsForgotten) {
  {
    Member before(options_);
    ASSERT_OK(Run(before, std::nullopt));
    const PartitionPosition position{kFirst, Offset{15}};
    ASSERT_OK(before.source->Commit({&position, 1}));
    ASSERT_OK(before.source->Close());
  }
  options_.on_offset_gap = OffsetGapPolicy::kRebuild;
  Member member(options_);
  ASSERT_OK(Run(member, Offset{31}));
  EXPECT_EQ(member.listener.assigned.at(kFirst).committed, Offset{15});
  ASSERT_EQ(member.listener.rebuilt.size(), 1u);
  EXPECT_EQ(member.listener.rebuilt[0].committed, std::nullopt);
  EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(12, 20)));
}

TEST_F(KafkaGapTest, CommittedOffsetOutsideTheInputNeedsADecision) {
  broker_.Commit(options_.application, topic_, 0, 31);
  {
    Member member(options_);
    const Status status = Run(member, std::nullopt);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code(), ErrorCode::kNeedsDecision);
    EXPECT_THAT(status.error().message(), HasSubstr("input ends at offset 20, the group's committed offset is 31"));
  }
  options_.on_offset_gap = OffsetGapPolicy::kAccept;
  {
    Member member(options_);
    ASSERT_OK(Run(member, std::nullopt));
    EXPECT_EQ(member.listener.assigned.at(kFirst).committed, std::nullopt);
    EXPECT_THAT(member.values[kFirst], ElementsAreArray(Numbers(12, 20)));
  }
  // Unanswered records that are gone, and no state to tell of them.
  options_.on_offset_gap = OffsetGapPolicy::kFail;
  broker_.Commit(options_.application, topic_, 0, 3);
  Member member(options_);
  const Status status = Run(member, std::nullopt);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message(),
              HasSubstr("input begins at offset 12, the group's committed offset is at 3: 9 events are gone"));
}

// The log loses records that a running consumer has not fetched yet.
class KafkaRunningGapTest : public KafkaSourceTest, public testing::WithParamInterface<OffsetGapPolicy> {};

TEST_P(KafkaRunningGapTest, IsNeverSilent) {
  const std::string topic = broker_.NewTopic("running-gap", 1);
  std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>> records;
  for (int number = 0; number < 60; ++number)
    records.emplace_back("key", std::to_string(number) + std::string(5000, ' '));
  broker_.Produce(topic, 0, records);
  KafkaOptions options = OptionsFor(topic);
  options.on_offset_gap = GetParam();
  options.properties["queued.min.messages"] =
      "1";  // fetches a batch, that is a record, only when the last one was read
  options.properties["max.partition.fetch.bytes"] = "1000";

  Member member(options);
  ASSERT_OK(member.PollUntil([&] { return member.values[kFirst].size() >= 5; }, 1));
  broker_.DeleteRecords(topic, 0, 50);
  const Status status = member.PollTo(kFirst, 60);
  const auto& values = member.values[kFirst];
  size_t before = 0;
  while (before < values.size() && std::stoi(values[before]) == static_cast<int>(before)) ++before;
  ASSERT_LT(before, 50u) << "everything was fetched before it was deleted: the test tests nothing";
  if (GetParam() == OffsetGapPolicy::kFail) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code(), ErrorCode::kNeedsDecision);
    EXPECT_THAT(status.error().message(), HasSubstr("input begins at offset 50"));
    EXPECT_EQ(before, values.size());
    return;
  }
  ASSERT_OK(status);
  ASSERT_EQ(values.size(), before + 10);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(std::stoi(values[before + i]), static_cast<int>(50 + i));
  EXPECT_EQ(member.listener.rebuilt.size(), GetParam() == OffsetGapPolicy::kRebuild ? 1u : 0u);

  // What was decided is not asked about again, should the state be lost later.
  const PartitionPosition end{kFirst, Offset{60}};
  ASSERT_OK(member.source->Commit({&end, 1}));
  ASSERT_OK(member.source->Close());
  options.on_offset_gap = OffsetGapPolicy::kFail;
  Member next(options);
  ASSERT_OK(next.PollTo(kFirst, 60));
  EXPECT_EQ(std::stoi(next.values[kFirst].front()), 50);
}

INSTANTIATE_TEST_SUITE_P(Policies, KafkaRunningGapTest,
                         testing::Values(OffsetGapPolicy::kFail, OffsetGapPolicy::kAccept, OffsetGapPolicy::kRebuild),
                         [](const auto& test) {
                           return std::string(test.param == OffsetGapPolicy::kFail     ? "Fail"
                                              : test.param == OffsetGapPolicy::kAccept ? "Accept"
                                                                                       : "Rebuild");
                         });

TEST_F(KafkaSourceTest, ATopicThatIsDeletedIsAnError) {
  const std::string topic = broker_.NewTopic("deleted", 1);
  broker_.ProduceNumbers(topic, 0, 0, 3);
  KafkaOptions options = OptionsFor(topic);
  options.properties["topic.metadata.refresh.interval.ms"] = "500";
  options.properties["topic.metadata.propagation.max.ms"] = "500";
  Member member(options);
  ASSERT_OK(member.PollTo(kFirst, 3));
  broker_.DeleteTopic(topic);
  const Status status = member.PollUntil([] { return false; });
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message(), HasSubstr(topic));
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
}

// Two processes of one instance; the same error ends a consumer's session that an outage held up.
TEST_F(KafkaSourceTest, AFencedConsumerJoinsAgainUntilItIsFencedAgainAndAgain) {
  const std::string topic = broker_.NewTopic("fenced", 1);
  broker_.ProduceNumbers(topic, 0, 0, 3);
  KafkaOptions options = OptionsFor(topic);
  options.instance = "copied";
  Member first(options);
  ASSERT_OK(first.PollTo(kFirst, 3));
  Member second(options);
  ASSERT_OK(second.PollTo(kFirst, 3));
  Status status;
  const auto until = steady_clock::now() + seconds(60);
  while (status.ok() && steady_clock::now() < until) {
    status = first.PollOnce();
    if (status.ok()) status = second.PollOnce();
  }
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message(),
              HasSubstr("fenced again and again: another process has this one's group.instance.id"));
  ASSERT_GE(first.listener.revoked.size() + second.listener.revoked.size(), 2u);
  EXPECT_EQ(first.listener.revoked.front(), std::pair(kFirst, true)) << "lost";
  EXPECT_GE(std::max(first.values[kFirst].size(), second.values[kFirst].size()), 6u) << "who joins again reads again";
}

TEST_F(KafkaSourceTest, AListenersErrorEndsPollAndTheSourceStillCloses) {
  const std::string topic = broker_.NewTopic("listener", 2);
  Member member(OptionsFor(topic));
  member.listener.on_assigned = [](const Assignment&) -> Status { return Error(ErrorCode::kIo, "disk on fire"); };
  const Status status = member.PollUntil([] { return false; });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message(), "disk on fire");
  ASSERT_OK(member.source->Close());
  EXPECT_TRUE(member.listener.revoked.empty());
}

}  // namespace
}  // namespace freshet
