// Transactions that come to nothing, or whose end is not known, and partitions that are lost: nothing is lost, nothing
// is answered twice, and state is that of a run without faults.
#include <gmock/gmock.h>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

// As a transaction: its Commit() also moves the committed positions of `topic`. One call in `odds` says kAborted; a
// Commit() then has done all of its work as often as nothing.
class UnsureSink : public RecordSink {
 public:
  UnsureSink(MemoryTopic& topic, uint64_t seed, uint64_t odds) : topic_(topic), random_(seed), odds_(odds) {}

  Status Publish(std::span<const OutputRecord> records) override {
    EXPECT_FALSE(aborted_) << "only Abort() goes on";
    const bool abort = Draws();
    if (abort) records = records.first(random_() % (records.size() + 1));
    EXPECT_TRUE(sink_.Publish(records).ok());
    return abort ? Aborted("publish") : Status();
  }

  Status Commit(std::span<const PartitionPosition> positions) override {
    EXPECT_FALSE(aborted_) << "only Abort() goes on";
    const bool abort = Draws();
    if (abort && random_() % 2 == 0) return Aborted("commit");
    const size_t before = sink_.committed().size();
    EXPECT_TRUE(sink_.Commit(positions).ok());
    for (const PartitionPosition& position : positions) {
      Offset& committed = topic_.committed.try_emplace(position.partition).first->second;
      EXPECT_GE(position.next, committed) << "a position went back";
      committed = position.next;
    }
    if (!abort) return {};
    for (size_t n = before; n < sink_.committed().size(); ++n) ++unsure_[sink_.committed()[n].stream];
    return Aborted("commit, of which nobody knows");
  }

  Status Abort() override {
    aborted_ = false;
    return sink_.Abort();
  }

  void CalmDown() { odds_ = 0; }
  const MemorySink& seen() const { return sink_; }
  int64_t aborts() const { return aborts_; }
  // Records that were committed although Commit() said kAborted.
  int64_t unsure(Stream stream) const { return unsure_.contains(stream) ? unsure_.at(stream) : 0; }

 private:
  bool Draws() { return odds_ > 0 && random_() % odds_ == 0; }
  Status Aborted(const std::string& what) {
    aborted_ = true;
    ++aborts_;
    return Error(ErrorCode::kAborted, "test: " + what);
  }

  MemoryTopic& topic_;
  MemorySink sink_;
  std::mt19937_64 random_;
  uint64_t odds_;
  bool aborted_ = false;
  int64_t aborts_ = 0;
  std::map<Stream, int64_t> unsure_;
};

// Loses a partition to another instance, which answers all of it, when it is told to.
class LosingSource : public MemorySource {
 public:
  LosingSource(MemoryTopic& topic, PartitionId partition)
      : MemorySource(topic), all_of_it_(topic), partition_(partition) {}

  Status Open(AssignmentListener& listener) override {
    listener_ = &listener;
    return MemorySource::Open(listener);
  }
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override {
    if (!std::exchange(lose_, false)) return MemorySource::Poll(batch, max_records, wait);
    all_of_it_.committed[partition_] = Offset{std::ssize(all_of_it_.partitions[static_cast<size_t>(Raw(partition_))])};
    RETURN_IF_ERROR(listener_->OnRevoked(partition_, true));
    return PollState::kMore;
  }
  void LoseNow() { lose_ = true; }

 private:
  MemoryTopic& all_of_it_;
  const PartitionId partition_;
  AssignmentListener* listener_ = nullptr;
  bool lose_ = false;
};

// RandomTopic() with a bad record after every tenth.
MemoryTopic TopicWithBadRecords(size_t count, uint64_t seed) {
  MemoryTopic topic = RandomTopic(count, seed);
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    std::vector<std::string>& records = topic.partitions[p];
    for (size_t n = 0; n < records.size(); n += 11) {
      records.insert(records.begin() + static_cast<std::ptrdiff_t>(n),
                     "bad " + std::to_string(p) + "/" + std::to_string(n));
    }
  }
  return topic;
}

std::vector<std::string> DeadLetters(const MemorySink& sink) {
  std::vector<std::string> letters;
  for (const MemorySink::Kept& kept : sink.committed()) {
    if (kept.stream == Stream::kDeadLetters) letters.push_back(kept.value);
  }
  return letters;
}

class RewindTest : public testing::Test {
 protected:
  void SetUp() override {
    MemoryTopic topic = all_;
    Processor oracle(temporary_.path() / "oracle", serving_, topic, expected_);
    oracle.Run();
    ASSERT_TRUE(oracle.pipeline->Close().ok());
    digest_ = DigestOf(*oracle.states);
    ends_ = topic.committed;
  }

  void ExpectAsWithoutFaults(const MemorySink& sink, Processor& processor, const MemoryTopic& topic) {
    ExpectSameAnswers(sink, expected_);
    EXPECT_THAT(DeadLetters(sink), testing::UnorderedElementsAreArray(DeadLetters(expected_)));
    EXPECT_EQ(DigestOf(*processor.states), digest_);
    EXPECT_EQ(topic.committed, ends_);
  }

  static PipelineOptions SmallCommits() {
    PipelineOptions options;
    options.max_batch = 7;
    options.commit_interval = std::chrono::milliseconds(0);
    return options;
  }

  TemporaryDirectory temporary_;
  ServingModel serving_ = Serve(3);
  const MemoryTopic all_ = TopicWithBadRecords(600, TestSeed() + 9);
  MemorySink expected_;
  std::string digest_;
  std::map<PartitionId, Offset> ends_;
};

TEST_F(RewindTest, AbortedTransactionsChangeNothing) {
  for (const uint64_t odds : {3, 8, 30}) {
    SCOPED_TRACE(odds);
    MemoryTopic topic = all_;
    UnsureSink sink(topic, TestSeed() + odds, odds);
    Processor processor(temporary_.path() / std::to_string(odds), serving_, topic, sink, SmallCommits());
    processor.Run();
    const PipelineCounts counts = processor.pipeline->counts();
    ASSERT_TRUE(processor.pipeline->Close().ok());
    ExpectAsWithoutFaults(sink.seen(), processor, topic);
    EXPECT_GT(sink.aborts(), 3);
    EXPECT_EQ(counts.aborts, sink.aborts());
    EXPECT_EQ(counts.events, 600);
    EXPECT_EQ(counts.repeats, 0);
    EXPECT_EQ(counts.recommendations + sink.unsure(Stream::kRecommendations), 600);
    EXPECT_EQ(counts.silent, sink.unsure(Stream::kRecommendations));
    EXPECT_EQ(counts.dead_letters + sink.unsure(Stream::kDeadLetters), std::ssize(DeadLetters(expected_)));
  }
}

// Also of processes that die in between, and with snapshots in the transactions: these then give the same state to an
// empty disk.
TEST_F(RewindTest, AbortsAndCrashesChangeNothingNorTheSnapshots) {
  MemoryTopic topic = all_;
  UnsureSink sink(topic, TestSeed() + 10, 6);
  Snapshots snapshots(sink.seen());
  PipelineOptions options = SmallCommits();
  options.snapshots = snapshots.options();
  for (int life = 0; life < 12; ++life) {
    Processor processor(temporary_.path() / "crashing", serving_, topic, sink, options);
    processor.Run(9);
    ASSERT_TRUE(sink.Abort().ok());
  }
  {
    Processor last(temporary_.path() / "crashing", serving_, topic, sink, options);
    last.Run();
    sink.CalmDown();
    ASSERT_TRUE(last.pipeline->Close().ok());
    ExpectAsWithoutFaults(sink.seen(), last, topic);
  }
  for (const PartitionId partition : {PartitionId{0}, PartitionId{1}}) {
    EXPECT_THAT(snapshots.Compacted(partition).keys[0], testing::Contains(testing::Truly(IsWatermarkKey)));
  }
  Processor restored(temporary_.path() / "empty", serving_, topic, sink, options);
  restored.Run();
  const PipelineCounts counts = restored.pipeline->counts();
  ASSERT_TRUE(restored.pipeline->Close().ok());
  EXPECT_LT(counts.events, 600) << "users come from the snapshot";
  ExpectAsWithoutFaults(sink.seen(), restored, topic);
}

// Another instance has answered what was not committed here.
TEST_F(RewindTest, ALostPartitionPublishesNothingThatWasNotCommitted) {
  for (const int committed_steps : {0, 4}) {
    SCOPED_TRACE(committed_steps);
    MemoryTopic topic = all_;
    MemorySink sink;
    PipelineOptions options;
    options.max_batch = 20;
    options.commit_interval = committed_steps > 0 ? std::chrono::milliseconds(0) : std::chrono::hours(1);
    auto owned = std::make_unique<LosingSource>(topic, PartitionId{0});
    LosingSource& source = *owned;
    Processor processor(temporary_.path() / std::to_string(committed_steps), serving_, std::move(owned), sink, options);
    processor.Run(committed_steps > 0 ? committed_steps : 5);
    const Offset answered_here = topic.committed[PartitionId{0}];
    EXPECT_EQ(answered_here > Offset{0}, committed_steps > 0);
    source.LoseNow();
    processor.Run();
    ASSERT_TRUE(processor.pipeline->Close().ok());
    const auto mine = Answers(sink), right = Answers(expected_);
    for (const auto& [key, answer] : right) {
      const bool here = answer["source"]["partition"] == 1 || answer["source"]["offset"] < Raw(answered_here);
      EXPECT_EQ(mine.contains(key), here) << answer["source"];
    }
    if (committed_steps > 0) continue;  // nothing to go back for: the partition does not return
    EXPECT_EQ(DigestOf(*processor.states), digest_) << "what the other answered changed state here, silently";
  }
}

}  // namespace
}  // namespace freshet
