#include "pipeline/worker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

// One that has all of its input, and says nothing of its end, before it is told.
class HeldSource : public MemorySource {
 public:
  HeldSource(MemoryTopic& topic, const std::atomic<bool>& joined, const std::atomic<bool>& ended)
      : MemorySource(topic), joined_(joined), ended_(ended) {}

  bool Joined() const override { return joined_; }
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override {
    ASSIGN_OR_RETURN(const PollState state, MemorySource::Poll(batch, max_records, wait));
    if (batch.records.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return ended_ ? state : PollState::kMore;
  }

 private:
  const std::atomic<bool>& joined_;
  const std::atomic<bool>& ended_;
};

// A partition at rest that was lost two hours ago.
void AddLostPartition(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "LOST").flush();
  fs::last_write_time(folder / "LOST", fs::file_time_type::clock::now() - std::chrono::hours(2));
}

class WorkerTest : public PipelineTest {
 protected:
  void AddWorker(std::unique_ptr<EventSource> source, std::unique_ptr<RecordSink> sink, PipelineOptions options = {}) {
    options.origin = [](PartitionId partition, Offset offset) { return Origin{"clicks", partition, offset}; };
    Worker& worker = workers_.emplace_back();
    worker.decoder = MakeDecoder({}).value();
    worker.source = std::move(source);
    worker.sink = std::move(sink);
    worker.pipeline = std::make_unique<Pipeline>(std::move(options), Borrowed(serving_), *worker.decoder,
                                                 *worker.source, *worker.sink, *states_, nullptr);
  }

  StateOptions StateIn(const fs::path& directory) const {
    StateOptions options;
    options.directory = directory;
    options.history = serving_.model->config.exact_history();
    return options;
  }

  MemoryTopic topic_ = RandomTopic(100, TestSeed());
  std::atomic<bool> joined_{false}, ended_{false}, stop_{false};
  const fs::path directory_ = temporary_.path() / "state";
  const std::unique_ptr<StateDirectory> states_ = StateDirectory::Open(StateIn(directory_)).value();
  std::vector<Worker> workers_;
};

TEST_F(WorkerTest, LostPartitionsGoOnceTheWorkerHasItsShareAndOpenOnesStay) {
  const fs::path lost = directory_ / "partition-7";
  AddLostPartition(lost);
  AddLostPartition(directory_ / "partition-1");  // it comes back
  AddWorker(std::make_unique<HeldSource>(topic_, joined_, ended_), std::make_unique<MemorySink>());
  std::vector<std::optional<PartitionId>> removed;
  int waits = 0;
  WorkerOptions run;
  run.tidy_interval = std::chrono::milliseconds(1);
  run.tidy = [&] {
    EXPECT_TRUE(joined_) << "who it is to serve is not known yet";
    auto one = states_->RemoveLostPartition(std::chrono::hours(1));
    ASSERT_TRUE(one.ok()) << one.error().message();
    removed.push_back(*one);
    ended_ = removed.size() >= 3;
  };
  run.progress = [&](const PipelineCounts&, double) {
    EXPECT_EQ(fs::exists(lost), removed.empty());
    if (++waits == 5) joined_ = true;
  };
  PipelineCounts counts;
  const Status status = RunWorkers(workers_, stop_, run, counts);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_GE(waits, 5);
  EXPECT_EQ(counts.events, 100);
  EXPECT_EQ(removed.at(0), PartitionId{7});
  EXPECT_EQ(std::count(removed.begin() + 1, removed.end(), std::nullopt), std::ssize(removed) - 1);
  EXPECT_EQ(states_->Partitions().value(), (std::vector{PartitionId{0}, PartitionId{1}}));
}

// Asks for a stop with its first commit of recommendations.
class StoppingSink : public MemorySink {
 public:
  explicit StoppingSink(std::atomic<bool>& stop) : stop_(stop) {}
  Status Commit(std::span<const PartitionPosition> positions) override {
    RETURN_IF_ERROR(MemorySink::Commit(positions));
    stop_ = stop_ || !committed().empty();
    return {};
  }

 private:
  std::atomic<bool>& stop_;
};

TEST_F(WorkerTest, AStopIsHeardBetweenTheLastAnswers) {
  PipelineOptions options;
  options.emit = Emit::kFinal;
  options.max_batch = 2;
  auto sink = std::make_unique<StoppingSink>(stop_);
  const StoppingSink& answers = *sink;
  AddWorker(std::make_unique<MemorySource>(topic_), std::move(sink), options);
  WorkerOptions run;
  run.emit_final = true;
  PipelineCounts counts;
  ASSERT_TRUE(RunWorkers(workers_, stop_, run, counts).ok());
  EXPECT_EQ(counts.events, 100);
  EXPECT_EQ(counts.recommendations, 2) << "of seven users'";
  EXPECT_EQ(answers.committed().size(), 2U);
  EXPECT_FALSE(workers_[0].pipeline->Finished());

  stop_ = false;  // the same state again
  workers_.clear();
  auto kept = std::make_unique<MemorySink>();
  const MemorySink& all = *kept;
  AddWorker(std::make_unique<MemorySource>(topic_), std::move(kept), options);
  ASSERT_TRUE(RunWorkers(workers_, stop_, run, counts).ok());
  EXPECT_EQ(all.committed().size(), 7U);
  EXPECT_TRUE(workers_[0].pipeline->Finished());
}

}  // namespace
}  // namespace freshet
