// What a pipeline tells its metrics, and when.
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <thread>

#include "core/clock.h"
#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

// Says that it ends, loses a partition, and has its transactions come to nothing, when it is told.
class ToldSource : public MemorySource {
 public:
  using MemorySource::MemorySource;

  Status Open(AssignmentListener& listener) override {
    listener_ = &listener;
    return MemorySource::Open(listener);
  }
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override {
    if (const auto lost = std::exchange(lose, std::nullopt)) RETURN_IF_ERROR(listener_->OnRevoked(*lost, false));
    ASSIGN_OR_RETURN(const PollState state, MemorySource::Poll(batch, max_records, wait));
    return ended ? state : PollState::kMore;
  }
  std::vector<std::pair<PartitionId, int64_t>> Lag() const override { return {{PartitionId{1}, waiting}}; }

  Status Commit(std::span<const PartitionPosition> positions) override {
    std::this_thread::sleep_for(commit_takes);
    return MemorySource::Commit(positions);
  }

  std::chrono::milliseconds commit_takes{0};
  int64_t waiting = 42;
  bool ended = false;
  std::optional<PartitionId> lose;

 private:
  AssignmentListener* listener_ = nullptr;
};

class ToldSink : public MemorySink {
 public:
  Status Commit(std::span<const PartitionPosition> positions) override {
    if (aborts > 0 && aborts-- > 0) return Error(ErrorCode::kAborted, "test: commit");
    std::this_thread::sleep_for(commit_takes);
    return MemorySink::Commit(positions);
  }
  int aborts = 0;
  std::chrono::milliseconds commit_takes{0};
};

class ReportingTest : public PipelineTest {
 protected:
  void Start(std::chrono::milliseconds commit_interval) {
    options_.topic = "clicks";
    options_.max_batch = 20;
    options_.commit_interval = commit_interval;
    auto source = std::make_unique<ToldSource>(topic_);
    source_ = source.get();
    processor_ = std::make_unique<Processor>(temporary_.path(), serving_, std::move(source), sink_, options_,
                                             &metrics_->Worker(0));
  }
  void Run(int steps) { processor_->Run(steps); }

  // Of a series as it is written; NaN: there is none.
  double Metric(const std::string& series) const {
    std::istringstream lines(metrics_->Render());
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(series + " ")) return std::stod(line.substr(series.size()));
    }
    return std::nan("");
  }

  MemoryTopic topic_ = RandomTopic(60, TestSeed() + 12);
  ToldSink sink_;
  PipelineOptions options_;
  const std::unique_ptr<Metrics> metrics_ = Metrics::Make("1", {"demo", "1"});
  ToldSource* source_ = nullptr;
  std::unique_ptr<Processor> processor_;
};

constexpr std::chrono::hours kNever{1};

TEST_F(ReportingTest, WhatIsAssignedAndItsLagAreToldWithoutACommit) {
  Start(kNever);
  Run(1);
  EXPECT_EQ(Metric("freshet_assigned_partitions"), 2);
  EXPECT_EQ(Metric(R"(freshet_consumer_lag{topic="clicks",partition="1"})"), 42);
  EXPECT_EQ(Metric("freshet_events_total"), 0) << "none is committed";
  source_->lose = PartitionId{0};
  Run(1);
  EXPECT_EQ(Metric("freshet_assigned_partitions"), 1);
}

TEST_F(ReportingTest, TheLagInSecondsIsTheAgeOfTheLastEventWhileRecordsWait) {
  Start(kNever);
  Run(1);
  EXPECT_EQ(Metric("freshet_consumer_lag_seconds"), 0) << "nothing was read before";
  Run(9);
  const auto to_come = [this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1010));  // gauges are a second old at most
    Run(1);
    return Metric("freshet_consumer_lag_seconds");
  };
  const auto last_ms = json::parse(topic_.partitions[1].back())["timestamp"].get<int64_t>();
  const int64_t before_ms = WallClockMs() - last_ms;
  const int64_t lag_ms = std::llround(to_come() * 1000);
  EXPECT_GE(lag_ms, before_ms);
  EXPECT_LE(lag_ms, WallClockMs() - last_ms);
  source_->waiting = 0;
  EXPECT_EQ(to_come(), 0);
}

TEST_F(ReportingTest, AbortsAreToldAlthoughNothingIsCommitted) {
  Start(std::chrono::milliseconds(0));
  sink_.aborts = 1000;
  Run(5);
  EXPECT_EQ(Metric("freshet_transaction_aborts_total"), 5);
  EXPECT_EQ(Metric("freshet_events_total"), 0);
  EXPECT_EQ(Metric("freshet_commit_seconds_count"), 5) << "their time is told as well";
  EXPECT_EQ(Metric(R"(freshet_commit_part_seconds_total{part="state"})"), 0);
}

TEST_F(ReportingTest, ACommitsTimeIsThatOfItsParts) {
  Start(std::chrono::milliseconds(0));
  sink_.commit_takes = std::chrono::milliseconds(20);
  source_->commit_takes = std::chrono::milliseconds(30);
  Run(3);
  EXPECT_EQ(Metric("freshet_commit_seconds_count"), 3);
  EXPECT_EQ(Metric(R"(freshet_commit_seconds_bucket{le="0.025"})"), 0);
  const double outputs = Metric(R"(freshet_commit_part_seconds_total{part="outputs"})");
  const double state = Metric(R"(freshet_commit_part_seconds_total{part="state"})");
  const double positions = Metric(R"(freshet_commit_part_seconds_total{part="positions"})");
  EXPECT_GE(outputs, 0.06);
  EXPECT_GT(state, 0);
  EXPECT_GE(positions, 0.09);
  EXPECT_NEAR(Metric("freshet_commit_seconds_sum"), outputs + state + positions, 0.02);
  EXPECT_GT(Metric("freshet_rocksdb_memtable_bytes"), 0);
  EXPECT_EQ(Metric("freshet_rocksdb_stalled_partitions"), 0);
}

TEST_F(ReportingTest, ACommitCountsTheEventsSinceTheOneBeforeAndTheirLatencies) {
  Start(kNever);
  Run(10);  // the last are empty
  EXPECT_EQ(Metric(R"(freshet_stage_events_total{stage="publish"})"), 60);
  EXPECT_EQ(Metric(R"(freshet_stage_events_total{stage="commit"})"), 0);
  EXPECT_EQ(Metric("freshet_event_latency_seconds_count"), 0) << "no reader sees them yet";
  sink_.aborts = 1;
  source_->ended = true;
  Run(1);  // comes to nothing
  EXPECT_EQ(Metric("freshet_event_latency_seconds_count"), 0);
  source_->ended = false;
  Run(10);
  source_->ended = true;
  Run(1);
  EXPECT_EQ(Metric(R"(freshet_stage_events_total{stage="commit"})"), 60);
  EXPECT_EQ(Metric("freshet_event_latency_seconds_count"), 60);
  EXPECT_EQ(Metric("freshet_events_total"), 60);
  EXPECT_EQ(Metric("freshet_transaction_aborts_total"), 1);
}

TEST_F(ReportingTest, CountersOfTheHotCacheDoNotShrinkWithThePartitions) {
  Start(std::chrono::milliseconds(0));
  Run(5);
  std::this_thread::sleep_for(std::chrono::milliseconds(1010));  // gauges are a second old at most
  Run(1);
  const double hits = Metric("freshet_hot_cache_hits_total");
  const double misses = Metric("freshet_hot_cache_misses_total");
  EXPECT_EQ(misses, 7) << "users";
  EXPECT_GT(hits, 0);
  for (const PartitionId partition : {PartitionId{0}, PartitionId{1}}) {
    source_->lose = partition;
    Run(2);
    EXPECT_EQ(Metric("freshet_hot_cache_hits_total"), hits);
    EXPECT_EQ(Metric("freshet_hot_cache_misses_total"), misses);
  }
  EXPECT_EQ(Metric("freshet_hot_cache_users"), 0);
}

TEST_F(ReportingTest, TheEndIsTold) {
  Start(std::chrono::milliseconds(0));
  Run(5);
  ASSERT_TRUE(processor_->pipeline->Close().ok());
  EXPECT_EQ(Metric("freshet_assigned_partitions"), 0);
  EXPECT_EQ(Metric("freshet_hot_cache_misses_total"), 7);
}

TEST_F(ReportingTest, TheAgeOfAWatermarkGrowsWhileTheSnapshotLacksSomething) {
  Snapshots snapshots(sink_);
  options_.snapshots = snapshots.options();
  options_.snapshots.interval = std::chrono::hours(1);
  Start(std::chrono::milliseconds(0));
  const auto began = std::chrono::steady_clock::now();
  Run(8);
  for (const PartitionId partition : {PartitionId{0}, PartitionId{1}}) ASSERT_TRUE(snapshots.Position(partition));
  EXPECT_LT(Metric("freshet_snapshot_watermark_age_seconds"), 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  Run(1);
  const std::chrono::duration<double> at_most = std::chrono::steady_clock::now() - began;
  EXPECT_GE(Metric("freshet_snapshot_watermark_age_seconds"), 1.2) << "the next walk is half an hour away";
  EXPECT_LE(Metric("freshet_snapshot_watermark_age_seconds"), at_most.count());
}

}  // namespace
}  // namespace freshet
