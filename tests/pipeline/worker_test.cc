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

class TidyTest : public PipelineTest {
 protected:
  MemoryTopic topic_ = RandomTopic(100, TestSeed());
  std::atomic<bool> joined_{false}, ended_{false}, stop_{false};
};

TEST_F(TidyTest, LostPartitionsGoOnceTheWorkerHasItsShareAndOpenOnesStay) {
  std::vector<Worker> workers(1);
  Worker& worker = workers[0];
  worker.decoder = MakeDecoder({}).value();
  worker.source = std::make_unique<HeldSource>(topic_, joined_, ended_);
  StateOptions options;
  options.directory = temporary_.path() / "state";
  options.history = serving_.model->config.exact_history();
  const std::unique_ptr<StateDirectory> states = StateDirectory::Open(options).value();
  const fs::path lost = options.directory / "partition-7";
  AddLostPartition(lost);
  AddLostPartition(options.directory / "partition-1");  // it comes back
  worker.sink = std::make_unique<MemorySink>();
  worker.pipeline = std::make_unique<Pipeline>(PipelineOptions(), serving_, *worker.decoder, *worker.source,
                                               *worker.sink, *states, nullptr);
  std::vector<std::optional<PartitionId>> removed;
  int waits = 0;
  WorkerOptions run;
  run.tidy_interval = std::chrono::milliseconds(1);
  run.tidy = [&] {
    EXPECT_TRUE(joined_) << "who it is to serve is not known yet";
    auto one = states->RemoveLostPartition(std::chrono::hours(1));
    ASSERT_TRUE(one.ok()) << one.error().message();
    removed.push_back(*one);
    ended_ = removed.size() >= 3;
  };
  run.progress = [&](const PipelineCounts&, double) {
    EXPECT_EQ(fs::exists(lost), removed.empty());
    if (++waits == 5) joined_ = true;
  };
  PipelineCounts counts;
  const Status status = RunWorkers(workers, stop_, run, counts);
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_GE(waits, 5);
  EXPECT_EQ(counts.events, 100);
  EXPECT_EQ(removed.at(0), PartitionId{7});
  EXPECT_EQ(std::count(removed.begin() + 1, removed.end(), std::nullopt), std::ssize(removed) - 1);
  EXPECT_EQ(states->Partitions().value(), (std::vector{PartitionId{0}, PartitionId{1}}));
}

}  // namespace
}  // namespace freshet
