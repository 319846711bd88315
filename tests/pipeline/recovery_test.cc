// Snapshots, and stores that come back, are restored, or are too old: what an instance writes and begins with.
#include <gmock/gmock.h>

#include <thread>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

using testing::HasSubstr;

constexpr PartitionId kOnly{0};
constexpr size_t kUsers = 200;  // more than a commit writes of a snapshot that has just begun
constexpr size_t kEvents = 1000;

// Of `abort_every` commits the last one comes to nothing; 0: none does.
class AbortingSink : public MemorySink {
 public:
  Status Commit(std::span<const PartitionPosition> positions) override {
    if (abort_every > 0 && ++commits_ % abort_every == 0) return Error(ErrorCode::kAborted, "test: commit");
    return MemorySink::Commit(positions);
  }
  int abort_every = 0;

 private:
  int commits_ = 0;
};

// A snapshot whose records keep their reader waiting.
class SilentSource : public MemorySource {
 public:
  SilentSource(MemoryTopic& topic, const bool& silent) : MemorySource(topic), silent_(silent) {}
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override {
    if (!silent_) return MemorySource::Poll(batch, max_records, wait);
    std::this_thread::sleep_for(wait);
    return PollState::kMore;
  }
  std::optional<double> Progress() const override { return 0.25; }

 private:
  const bool& silent_;
};

class RecoveryTest : public PipelineTest {
 protected:
  RecoveryTest() {
    options_.max_batch = 20;
    options_.commit_interval = std::chrono::milliseconds(0);
    options_.snapshots = snapshots_.options();
    topic_.name = "clicks";
    topic_.partitions.resize(1);
    for (size_t n = 0; n < kEvents; ++n) Add(n % kUsers);
  }

  void Add(size_t user) {
    const size_t n = topic_.partitions[0].size();
    topic_.partitions[0].push_back(EventJson("u" + std::to_string(user), "i" + std::to_string(1 + n % 59),
                                             1'600'000'000'000 + static_cast<int64_t>(n)));
  }
  Offset End() const { return Offset{std::ssize(topic_.partitions[0])}; }

  Processor Start(const std::string& directory) {
    return Processor(temporary_.path() / directory, serving_, topic_, sink_, options_);
  }

  // Until the snapshot's watermark is the end of the input.
  static void RunUntilSaved(Processor& processor, Snapshots& snapshots, Offset end) {
    for (int step = 0; step < 100'000 && snapshots.Position(kOnly) != end; ++step) processor.Run(1);
    EXPECT_EQ(snapshots.Position(kOnly), end);
  }

  // Of a run of all events, or of what a directory at rest holds.
  std::string RightDigest() {
    MemoryTopic topic = topic_;
    topic.committed.clear();
    MemorySink sink;
    Processor oracle(temporary_.path() / "oracle", serving_, topic, sink);
    oracle.Run();
    EXPECT_TRUE(oracle.pipeline->Close().ok());
    return DigestOf(*oracle.states);
  }
  std::string RestoredDigest() {
    Processor restored = Start("restored");
    restored.Run();
    EXPECT_LT(restored.pipeline->counts().events, std::ssize(topic_.partitions[0])) << "users come from the snapshot";
    EXPECT_TRUE(restored.pipeline->Close().ok());
    return DigestOf(*restored.states);
  }

  size_t SnapshotRecords() const {
    return static_cast<size_t>(std::count_if(sink_.committed().begin(), sink_.committed().end(),
                                             [](const auto& kept) { return kept.stream == Stream::kSnapshots; }));
  }

  // Of a snapshot that says nothing for as long as `silent`.
  void ReadSilently(const bool& silent) {
    options_.snapshots.read = [this, &silent](PartitionId partition) -> Result<std::unique_ptr<EventSource>> {
      return std::unique_ptr<EventSource>(std::make_unique<SilentSource>(snapshots_.Compacted(partition), silent));
    };
  }

  MemoryTopic topic_;
  AbortingSink sink_;
  Snapshots snapshots_{sink_};
  PipelineOptions options_;
};

// Its users of before would take the place of what another instance saved under a later watermark.
TEST_F(RecoveryTest, AStoreThatHasNotCaughtUpWritesNoSnapshot) {
  {
    Processor before = Start("kept");
    before.Run(10);
    ASSERT_TRUE(before.pipeline->Close().ok());
  }
  const Offset kept = topic_.committed[kOnly];
  ASSERT_EQ(kept, Offset{200});
  {
    Processor other = Start("other");
    other.Run();
    RunUntilSaved(other, snapshots_, End());
    ASSERT_TRUE(other.pipeline->Close().ok());
  }
  const size_t saved = SnapshotRecords();
  {
    Processor back = Start("kept");
    while (back.pipeline->counts().silent < Raw(End()) - Raw(kept)) {
      back.Run(1);
      const int64_t silent = back.pipeline->counts().silent;
      ASSERT_EQ(SnapshotRecords(), saved) << "after " << silent << " silent events";
      if (silent == 0 || silent == Raw(End()) - Raw(kept)) continue;
      ASSERT_STREQ(back.pipeline->Missing(), "takes in events that were answered before");
    }
    // It dies here, in what would be the middle of its first walk.
  }
  EXPECT_EQ(RestoredDigest(), RightDigest());
  Processor back = Start("kept");
  for (int step = 0; step < 100'000 && SnapshotRecords() == saved; ++step) back.Run(1);
  EXPECT_GT(SnapshotRecords(), saved) << "once it has caught up it writes again";
}

// That is, made anew under its name, so that the store believes it to hold everything.
TEST_F(RecoveryTest, ASnapshotTopicWithoutRecordsGetsEverybody) {
  {
    Processor first = Start("state");
    first.Run();
    RunUntilSaved(first, snapshots_, End());
    ASSERT_TRUE(first.pipeline->Close().ok());
  }
  Add(3);
  AbortingSink anew;
  anew.abort_every = 1;
  Snapshots snapshots(anew);
  options_.snapshots = snapshots.options();
  options_.snapshots.empty = {kOnly};
  {
    Processor second(temporary_.path() / "state", serving_, topic_, anew, options_);
    second.Run(3);  // nothing of it is committed
    anew.abort_every = 0;
    second.Run();
    RunUntilSaved(second, snapshots, End());
    ASSERT_TRUE(second.pipeline->Close().ok());
  }
  EXPECT_EQ(snapshots.Compacted(kOnly).keys[0].size(), kUsers + 1);
  options_.snapshots = snapshots.options();
  EXPECT_EQ(RestoredDigest(), RightDigest());
}

// As a source announces a partition whose input begins at `begin`, until it is taken up; where reading would begin.
Result<std::optional<Offset>> Announce(Pipeline& pipeline, Offset committed, Offset begin) {
  for (int tries = 0; tries < 10'000; ++tries) {
    auto position = pipeline.OnAssigned({kOnly, committed, true, begin});
    if (position.ok() || !position.error().retriable()) return position;
  }
  return Error(ErrorCode::kInternal, "it is never taken up");
}

TEST_F(RecoveryTest, StateThatWaitsForEventsThatAreGoneGivesWayToANewerSnapshot) {
  {
    Processor before = Start("kept");
    before.Run(10);
    ASSERT_TRUE(before.pipeline->Close().ok());
  }
  const Offset kept = topic_.committed[kOnly];
  {
    Processor other = Start("other");
    other.Run();
    RunUntilSaved(other, snapshots_, End());
    ASSERT_TRUE(other.pipeline->Close().ok());
  }
  const auto begin_with = [&](const std::string& directory, Offset input_begins) {
    Processor back = Start(directory);
    const auto position = Announce(*back.pipeline, End(), input_begins);
    EXPECT_TRUE(position.ok()) << position.error().message();
    return position.ok() ? *position : std::nullopt;
  };
  EXPECT_EQ(begin_with("kept", kept), kept) << "nothing that it needs is gone";
  EXPECT_EQ(begin_with("kept", Next(End())), kept) << "the snapshot does not help";
  EXPECT_EQ(begin_with("kept", Next(kept)), End());
  Processor restored = Start("kept");
  EXPECT_EQ(DigestOf(*restored.states), RightDigest());
}

using Clock = std::chrono::steady_clock;

// How new the snapshot is takes as long as reading it: others are served meanwhile.
TEST_F(RecoveryTest, WhetherStateIsOutdatedIsFoundOutInSlices) {
  {
    Processor before = Start("kept");
    before.Run(10);
    ASSERT_TRUE(before.pipeline->Close().ok());
  }
  {
    Processor other = Start("other");
    other.Run();
    RunUntilSaved(other, snapshots_, End());
    ASSERT_TRUE(other.pipeline->Close().ok());
  }
  bool silent = true;
  ReadSilently(silent);
  options_.snapshots.slice = std::chrono::milliseconds(20);
  Processor back = Start("kept");
  for (int tries = 0; tries < 3; ++tries) {
    const auto began = Clock::now();
    const auto position = back.pipeline->OnAssigned({kOnly, End(), true, End()});
    ASSERT_FALSE(position.ok());
    EXPECT_EQ(position.error().message(), "its state is being restored");
    EXPECT_LT(Clock::now() - began, std::chrono::seconds(2));
    EXPECT_STREQ(back.pipeline->Missing(), "restores its state");
  }
  silent = false;
  EXPECT_EQ(Announce(*back.pipeline, End(), End()).value(), End());
  EXPECT_EQ(back.pipeline->Missing(), nullptr);
}

TEST_F(RecoveryTest, ManyRestoresTakeOneSliceOfAPoll) {
  const bool silent = true;
  ReadSilently(silent);
  options_.snapshots.slice = std::chrono::milliseconds(240);
  Processor empty = Start("empty");
  auto began = Clock::now();
  for (int round = 0; round < 2; ++round) {
    began = Clock::now();
    for (int32_t partition = 0; partition < 8; ++partition) {
      EXPECT_EQ(empty.pipeline->OnAssigned({PartitionId{partition}, End()}).error().code(), ErrorCode::kUnavailable);
    }
  }
  const auto took = Clock::now() - began;
  EXPECT_GE(took, std::chrono::milliseconds(200));
  EXPECT_LT(took, 4 * options_.snapshots.slice) << "alone, each takes one";
}

TEST_F(RecoveryTest, WhatIsLeftOfARestoreIsTold) {
  const bool silent = true;
  ReadSilently(silent);
  options_.snapshots.read = [this, silently = options_.snapshots.read](PartitionId partition) {
    return partition == kOnly ? snapshots_.options().read(partition) : silently(partition);
  };
  const auto metrics = Metrics::Make("1", {"demo", "1"});
  Processor processor(temporary_.path() / "state", serving_, std::make_unique<MemorySource>(topic_), sink_, options_,
                      &metrics->Worker(0));
  EXPECT_EQ(processor.pipeline->OnAssigned({PartitionId{1}, End()}).error().code(), ErrorCode::kUnavailable);
  processor.Run(1);
  EXPECT_THAT(metrics->Render(), HasSubstr("\nfreshet_restore_remaining_ratio 0.75\n"));
  ASSERT_TRUE(processor.pipeline->OnRevoked(PartitionId{1}, true).ok());
  processor.Run(1);
  EXPECT_THAT(metrics->Render(), HasSubstr("\nfreshet_restore_remaining_ratio 0\n"));
}

// A walk through all users takes more commits than there are from one abort to the next.
TEST_F(RecoveryTest, AWalkEndsAlthoughTransactionsKeepComingToNothing) {
  SnapshotOptions snapshots = std::exchange(options_.snapshots, {});
  {
    Processor before = Start("state");
    before.Run();
    ASSERT_TRUE(before.pipeline->Close().ok());
  }
  options_.snapshots = std::move(snapshots);
  options_.snapshots.interval = std::chrono::hours(1);
  sink_.abort_every = 3;
  {
    Processor processor = Start("state");
    for (size_t step = 0; step < 100 && !snapshots_.Position(kOnly); ++step) {
      Add(step * 7 % kUsers);
      processor.Run(1);
    }
    ASSERT_TRUE(snapshots_.Position(kOnly));
    EXPECT_GT(processor.pipeline->counts().aborts, 2);
    sink_.abort_every = 0;
    processor.Run();
    ASSERT_TRUE(processor.pipeline->Close().ok());
  }
  EXPECT_EQ(RestoredDigest(), RightDigest());
}

TEST_F(RecoveryTest, AnotherApplicationsSnapshotTakesNoStateAway) {
  {
    Processor first = Start("state");
    first.Run(10);
    ASSERT_TRUE(first.pipeline->Close().ok());
  }
  MemorySink theirs_sink;
  Snapshots theirs(theirs_sink);
  {
    PipelineOptions options = options_;
    options.snapshots = theirs.options();
    options.snapshots.whose = "another, clicks";
    MemoryTopic topic = topic_;
    topic.committed.clear();
    Processor other(temporary_.path() / "other", serving_, topic, theirs_sink, options);
    other.Run();
    RunUntilSaved(other, theirs, End());
  }
  options_.snapshots.read = theirs.options().read;
  Processor back = Start("state");
  const auto position = Announce(*back.pipeline, End(), Offset{300});
  ASSERT_FALSE(position.ok());
  EXPECT_THAT(position.error().message(), HasSubstr("holds the snapshot of another, clicks"));
  EXPECT_EQ(back.states->OpenPartition(kOnly).value()->Position(), Offset{200});
}

TEST_F(RecoveryTest, ASnapshotThatCannotBeReadIsWaitedForAndTheReasonTold) {
  {
    Processor first = Start("state");
    first.Run();
    RunUntilSaved(first, snapshots_, End());
    ASSERT_TRUE(first.pipeline->Close().ok());
  }
  bool down = true;
  options_.snapshots.read = [&](PartitionId partition) -> Result<std::unique_ptr<EventSource>> {
    if (down) return Error(ErrorCode::kUnavailable, "no answer from nobody:9092");
    return snapshots_.options().read(partition);
  };
  Processor empty = Start("empty");
  for (int tries = 0; tries < 3; ++tries) {
    const auto position = empty.pipeline->OnAssigned({kOnly, End()});
    ASSERT_FALSE(position.ok());
    EXPECT_EQ(position.error().code(), ErrorCode::kUnavailable);
    EXPECT_THAT(position.error().message(), HasSubstr("no answer from nobody:9092"));
    EXPECT_STREQ(empty.pipeline->Missing(), "restores its state");
  }
  down = false;
  EXPECT_EQ(Announce(*empty.pipeline, End(), Offset{0}).value(), End());
}

}  // namespace
}  // namespace freshet
