// What a whole micro-batch of warm users allocates, from its bytes to its answers and its commit to RocksDB.
#include "tests/support/allocations.h"

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

// Takes answers and keeps none.
class CountingSink final : public RecordSink {
 public:
  Status Publish(std::span<const OutputRecord> records) override {
    answers += records.size();
    return {};
  }
  Status Commit(std::span<const PartitionPosition>) override { return {}; }
  Status Abort() override { return {}; }

  size_t answers = 0;
};

constexpr int kUsers = 200;

// Each user's events are every kUsers-th.
MemoryTopic UsersInTurn(size_t events) {
  MemoryTopic topic;
  topic.partitions.resize(2);
  for (size_t i = 0; i < events; ++i) {
    const size_t user = i % kUsers;
    topic.partitions[user % 2].push_back(EventJson("user-with-a-long-name-" + std::to_string(user),
                                                   "i" + std::to_string(1 + i * 31 % 59),
                                                   1'600'000'000'000 + static_cast<int64_t>(i) * 1000));
  }
  return topic;
}

class AllocationsTest : public PipelineTest {
 protected:
  // The most operator new calls of a micro-batch of `batch` events that is committed, of those in the second half of
  // the input: every user is known by then, and has more events than state keeps.
  int64_t MostOfABatch(const ServingModel& serving, size_t batch, size_t batches) {
    MemoryTopic topic = UsersInTurn(batch * batches);
    CountingSink sink;
    PipelineOptions options;
    options.max_batch = batch;
    options.commit_interval = std::chrono::milliseconds(0);
    options.top_k = 10;
    const std::unique_ptr<Metrics> metrics = Metrics::Make("1", {"demo", "1"});
    const std::string directory = std::to_string(batch) + serving.model->version;
    Processor processor(temporary_.path() / directory, serving, std::make_unique<MemorySource>(topic), sink, options,
                        &metrics->Worker(0));
    processor.Run(static_cast<int>(batches / 2));
    int64_t most = 0;
    while (sink.answers < batch * (batches - 1)) {
      const int64_t before = AllocationsOfThisThread();
      processor.Run(1);
      most = std::max(most, AllocationsOfThisThread() - before);
    }
    return most;
  }
};

// None is an event's or a user's: some tens are the batch's, in RocksDB's commit above all, and a few oneDNN's for each
// product of up to 256 events, of which a transformer has twice as many, and for each 64 events that are ranked at
// once.
TEST_F(AllocationsTest, AreABatchsAndNoEvents) {
  ModelConfig additive = SmallConfig();
  additive.block = Block::kTransformer, additive.attention = Attention::kAdditive, additive.ffn_dim = 40;
  for (const ModelConfig& config : {SmallConfig(), additive}) {
    const ServingModel serving = Serve(config, 1);
    for (const size_t events : {64, 1024}) {
      const int64_t most = MostOfABatch(serving, events, 200 * 64 / events);
      std::cout << "operator new calls of a batch of " << events << " events: " << most << std::endl;
      const size_t products = config.block == Block::kTransformer ? 2 : 1;
      EXPECT_LE(most, static_cast<int64_t>(100 + products * events / 4));
    }
  }
}

}  // namespace
}  // namespace freshet
