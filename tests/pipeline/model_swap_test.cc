// A model that takes the place of another in the middle of a stream: answers before are the old model's, answers after
// are those of a process that was started with the new one, on the same state.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "pipeline/current_model.h"
#include "pipeline/worker.h"
#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

using Handle = std::shared_ptr<const ServingModel>;

// Another model in everything: block, sizes, vocabulary; it needs no more history than SmallConfig().
ModelConfig OtherConfig() {
  ModelConfig config = SmallConfig();
  config.block = Block::kTransformer;
  config.ffn_dim = 48;
  config.items = 90;
  config.event_types = 5;
  config.dim = 24;
  config.layers = 1;
  config.heads = 3;
  config.window = 8;
  return config;
}

Handle Shared(const ModelConfig& config, uint64_t seed, CachePrecision cache_precision = CachePrecision::kFp32) {
  return std::make_shared<const ServingModel>(Serve(config, seed, cache_precision));
}

// Without the only thing in it that no log tells.
std::string WithoutTime(const std::string& answer) {
  const size_t begin = answer.find("\"generated_at\":");
  return answer.substr(0, begin) + answer.substr(answer.find(',', begin) + 1);
}

std::vector<std::string> Values(const MemorySink& sink) {
  std::vector<std::string> values;
  for (const MemorySink::Kept& kept : sink.committed()) values.push_back(WithoutTime(kept.value));
  return values;
}

std::string VersionIn(const std::string& answer) { return json::parse(answer)["model"]["version"]; }

PipelineOptions CommitEachBatch(size_t max_batch) {
  PipelineOptions options;
  options.max_batch = max_batch;
  options.commit_interval = std::chrono::milliseconds(0);
  return options;
}

class ModelSwapTest : public PipelineTest {
 protected:
  // Answers of a pipeline that serves each model for so many micro-batches, the last one to the end; `restart`: with a
  // new process for each, on the state of the one before.
  MemorySink Run(const std::string& name, const std::vector<std::pair<Handle, int>>& models, size_t max_batch,
                 bool restart) {
    MemorySink sink;
    MemoryTopic topic = topic_;
    std::unique_ptr<Processor> processor;
    for (const auto& [model, batches] : models) {
      if (restart && processor != nullptr) {
        EXPECT_TRUE(processor->pipeline->Close().ok());
        processor.reset();
      }
      if (processor == nullptr) {
        processor = std::make_unique<Processor>(temporary_.path() / name, *model, topic, sink,
                                                CommitEachBatch(max_batch), kHistory);
      }
      if (!restart) processor->pipeline->Serve(model);
      processor->Run(batches);
    }
    EXPECT_TRUE(processor->pipeline->Close().ok());
    digests_.push_back(DigestOf(*processor->states));
    return sink;
  }

  static constexpr size_t kHistory = 9;  // what SmallConfig() needs
  static constexpr int kToTheEnd = 1'000'000;
  const MemoryTopic topic_ = RandomTopic(600, TestSeed() + 11);
  const Handle old_ = Shared(SmallConfig(), 3);
  const Handle new_ = Shared(OtherConfig(), 4);
  std::vector<std::string> digests_;
};

TEST_F(ModelSwapTest, AnswersAreThoseOfAProcessStartedWithTheModel) {
  ASSERT_EQ(SmallConfig().exact_history(), kHistory);
  ASSERT_LE(OtherConfig().exact_history(), kHistory);
  const std::vector<std::pair<Handle, int>> models = {{old_, 250}, {new_, 120}, {old_, kToTheEnd}};
  const auto swapped = Values(Run("swapped", models, 1, false));
  const auto restarted = Values(Run("restarted", models, 1, true));
  ASSERT_EQ(swapped.size(), 600U);
  EXPECT_EQ(swapped, restarted) << "byte for byte";
  EXPECT_EQ(digests_[0], digests_[1]);

  const auto old_alone = Values(Run("old", {{old_, kToTheEnd}}, 1, false));
  for (size_t n = 0; n < 600; ++n) {
    EXPECT_EQ(VersionIn(swapped[n]), (n >= 250 && n < 370 ? new_ : old_)->model->version) << n;
    EXPECT_TRUE(n >= 250 || swapped[n] == old_alone[n]) << n;
  }
}

// The weights stay what they are: only the tag of the cached keys/values tells that they are of another form.
TEST_F(ModelSwapTest, AnotherPrecisionOfTheCacheIsAnotherModelToIt) {
  const Handle int8 = Shared(SmallConfig(), 3, CachePrecision::kInt8);
  const Handle fp16 = Shared(SmallConfig(), 3, CachePrecision::kFp16);
  const std::vector<std::pair<Handle, int>> models = {{old_, 150}, {int8, 150}, {fp16, 100}, {old_, kToTheEnd}};
  const auto swapped = Values(Run("swapped", models, 1, false));
  const auto restarted = Values(Run("restarted", models, 1, true));
  ASSERT_EQ(swapped.size(), 600U);
  EXPECT_EQ(swapped, restarted) << "byte for byte";
  EXPECT_EQ(digests_[0], digests_[1]);
}

// The same in batches of several users, as near as batches allow, and the new model's answers as if it had served from
// the beginning.
TEST_F(ModelSwapTest, AnswersAreThoseOfTheModelAlone) {
  const MemorySink swapped = Run("swapped", {{old_, 30}, {new_, kToTheEnd}}, 8, false);
  const MemorySink restarted = Run("restarted", {{old_, 30}, {new_, kToTheEnd}}, 8, true);
  const MemorySink alone = Run("alone", {{new_, kToTheEnd}}, 8, false);
  ExpectSameAnswers(swapped, restarted);
  EXPECT_EQ(digests_[0], digests_[2]) << "no model leaves traces in the state";
  const auto answers = Answers(swapped), right = Answers(alone);
  ASSERT_EQ(answers.size(), 600U);
  size_t compared = 0;
  for (const auto& [key, answer] : answers) {
    if (answer["model"] != right.at(key)["model"]) continue;
    ++compared;
    const json& items = answer["items"];
    const json& expected = right.at(key)["items"];
    // The old model's longer history stays: it leaves out more items as seen.
    for (size_t i = 0, j = 0; i < items.size() && j < expected.size(); ++i, ++j) {
      EXPECT_NEAR(items[i]["score"].get<float>(), expected[j]["score"].get<float>(), 1e-3) << answer;
    }
  }
  EXPECT_EQ(compared, 600U - 30 * 8);
}

TEST_F(ModelSwapTest, ALiveAnswerIsTheNewModelsAtOnce) {
  MemorySink sink;
  MemoryTopic topic = topic_;
  PipelineOptions options;
  options.keep_user_vectors = true;
  const auto directory = temporary_.path() / "state";
  auto processor = std::make_unique<Processor>(directory, *old_, topic, sink, options, kHistory);
  processor->Run();
  ASSERT_TRUE(processor->pipeline->BetweenCommits());
  const std::string before = processor->Ask({"u1", 7}).value().value();
  processor->pipeline->Serve(new_);
  const std::string after = processor->Ask({"u1", 7}).value().value();
  ASSERT_TRUE(processor->pipeline->Close().ok());
  EXPECT_EQ(VersionIn(before), old_->model->version);
  EXPECT_EQ(VersionIn(after), new_->model->version);

  processor.reset();
  processor = std::make_unique<Processor>(directory, *new_, topic, sink, options, kHistory);
  processor->Run();
  EXPECT_EQ(WithoutTime(after), WithoutTime(processor->Ask({"u1", 7}).value().value()));
  ASSERT_TRUE(processor->pipeline->Close().ok());
}

TEST_F(ModelSwapTest, ATransactionThatIsOpenIsWaitedFor) {
  MemorySink sink;
  MemoryTopic topic = topic_;
  PipelineOptions options = CommitEachBatch(8);
  options.commit_interval = std::chrono::hours(1);
  Processor processor(temporary_.path() / "state", *old_, topic, sink, options, kHistory);
  EXPECT_TRUE(processor.pipeline->BetweenCommits());
  processor.Run(3);
  EXPECT_FALSE(processor.pipeline->BetweenCommits());
  ASSERT_TRUE(processor.pipeline->Close().ok());
  EXPECT_TRUE(processor.pipeline->BetweenCommits());
}

// Delivers a few records at a time, and none behind the offset `gate`.
class GatedSource : public MemorySource {
 public:
  GatedSource(MemoryTopic& topic, const std::atomic<int64_t>& gate) : MemorySource(topic), gate_(gate) {}

  Result<PollState> Poll(RecordBatch& batch, size_t, std::chrono::milliseconds wait) override {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    if (delivered_ >= gate_) return PollState::kMore;
    ASSIGN_OR_RETURN(const PollState state, MemorySource::Poll(batch, 4, wait));
    for (const PartitionPosition& position : batch.positions) {
      delivered_ = std::max<int64_t>(delivered_, Raw(position.next));
    }
    return state;
  }
  int64_t delivered() const { return delivered_; }

 private:
  const std::atomic<int64_t>& gate_;
  std::atomic<int64_t> delivered_{0};
};

// One transaction in five comes to nothing; the others are looked into.
class WatchingSink : public RecordSink {
 public:
  explicit WatchingSink(uint64_t seed) : random_(seed) {}

  Status Publish(std::span<const OutputRecord> records) override { return sink_.Publish(records); }
  Status Commit(std::span<const PartitionPosition> positions) override {
    if (random_() % 5 == 0) return Error(ErrorCode::kAborted, "test: commit");
    const size_t before = sink_.committed().size();
    RETURN_IF_ERROR(sink_.Commit(positions));
    for (size_t n = before; n < sink_.committed().size(); ++n) {
      const std::string version = VersionIn(sink_.committed()[n].value);
      if (n == before && (versions_.empty() || versions_.back() != version)) versions_.push_back(version);
      EXPECT_EQ(version, versions_.back()) << "a transaction with answers of two models";
    }
    return {};
  }
  Status Abort() override { return sink_.Abort(); }

  const MemorySink& seen() const { return sink_; }
  const std::vector<std::string>& versions() const { return versions_; }  // in the order of their transactions

 private:
  MemorySink sink_;
  std::mt19937_64 random_;
  std::vector<std::string> versions_;
};

// Two workers, each with a partition and a state of its own.
class WorkersSwapTest : public ModelSwapTest {
 protected:
  static constexpr int64_t kEvents = 1500;  // of each partition
  static constexpr int64_t kEventsOfModel = 100;
  static constexpr int64_t kSwaps = 10;

  void AddWorker(size_t w) {
    MemoryTopic& topic = topics_[w];
    for (int64_t n = 0; n < kEvents; ++n) {
      topic.partitions[0].push_back(EventJson("u" + std::to_string(n % 5), "i" + std::to_string(1 + n % 59), n));
    }
    StateOptions state;
    state.directory = temporary_.path() / std::to_string(w);
    state.history = kHistory;
    states_[w] = StateDirectory::Open(state).value();
    auto source = std::make_unique<GatedSource>(topic, gate_);
    auto sink = std::make_unique<WatchingSink>(TestSeed() + w);
    sources_[w] = source.get();
    sinks_[w] = sink.get();
    workers_[w].decoder = MakeDecoder({}).value();
    workers_[w].source = std::move(source);
    workers_[w].sink = std::move(sink);
    PipelineOptions options;
    options.commit_interval = std::chrono::milliseconds(2);
    workers_[w].pipeline = std::make_unique<Pipeline>(options, current_.Newer(nullptr), *workers_[w].decoder,
                                                      *workers_[w].source, *workers_[w].sink, *states_[w], nullptr);
  }

  // Another model for each `kEventsOfModel` events. Every worker has let go of the one before by then.
  void SwapAllTheTime() {
    for (int64_t n = 1; n <= kSwaps; ++n) {
      while (std::min(sources_[0]->delivered(), sources_[1]->delivered()) < n * kEventsOfModel) Pause();
      Handle next = Shared(n % 2 == 1 ? OtherConfig() : SmallConfig(), static_cast<uint64_t>(100 + n));
      versions_.push_back(next->model->version);
      models_.push_back(next);
      current_.Replace(std::move(next));
      while (!current_.Settled()) Pause();
      EXPECT_TRUE(models_[static_cast<size_t>(n) - 1].expired());
      gate_ = (n + 2) * kEventsOfModel;
    }
    gate_ = kEvents + 1;
  }
  static void Pause() { std::this_thread::sleep_for(std::chrono::microseconds(100)); }

  std::vector<MemoryTopic> topics_{2, MemoryTopic{.name = "clicks", .partitions = {{}}, .committed = {}, .keys = {}}};
  std::atomic<int64_t> gate_{2 * kEventsOfModel};  // events go on to come while a model is replaced
  CurrentModel current_{Shared(SmallConfig(), 100)};
  std::vector<std::string> versions_ = {current_.Newer(nullptr)->model->version};
  std::vector<std::weak_ptr<const ServingModel>> models_ = {current_.Newer(nullptr)};
  std::array<std::unique_ptr<StateDirectory>, 2> states_;
  std::array<GatedSource*, 2> sources_{};
  std::array<WatchingSink*, 2> sinks_{};
  std::vector<Worker> workers_ = std::vector<Worker>(2);
};

TEST_F(WorkersSwapTest, NoTransactionHoldsTwoModelsAndNoEventIsLostOrAnsweredTwice) {
  for (const size_t w : {0, 1}) AddWorker(w);
  std::thread swapper([this] { SwapAllTheTime(); });
  const std::atomic<bool> stop{false};
  WorkerOptions options;
  options.model = &current_;
  PipelineCounts counts;
  const Status status = RunWorkers(workers_, stop, options, counts);
  swapper.join();
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_EQ(counts.events, 2 * kEvents);
  EXPECT_GT(counts.aborts, 0);
  for (const WatchingSink* sink : sinks_) {
    EXPECT_EQ(std::ssize(Answers(sink->seen())), kEvents) << "once each";
    EXPECT_EQ(sink->versions().back(), versions_.back());
    // In the order in which they came, and most of them: a model whose only transactions came to nothing has none.
    size_t newest = 0;
    for (const std::string& version : sink->versions()) {
      const auto found = std::find(versions_.begin() + static_cast<std::ptrdiff_t>(newest), versions_.end(), version);
      ASSERT_NE(found, versions_.end()) << "went back to a model";
      newest = static_cast<size_t>(found - versions_.begin());
    }
    EXPECT_GT(sink->versions().size(), versions_.size() / 2);
  }
}

}  // namespace
}  // namespace freshet
