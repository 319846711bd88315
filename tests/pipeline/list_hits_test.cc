// The hit rate of the lists that users have: counted by hand from what was published.
#include <gtest/gtest.h>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

struct Hits {
  int64_t lists = 0;
  int64_t hits = 0;

  bool operator==(const Hits&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Hits& hits) { return out << hits.hits << " of " << hits.lists; }

class ListHitsTest : public PipelineTest {
 protected:
  ListHitsTest() {
    options_.top_k = 20;
    options_.exclude_seen = false;
    options_.commit_interval = std::chrono::milliseconds(0);
  }

  // From the answers in `sink`: each event against the `first` items of its user's answer before it, but those of users
  // who had none since the event with sequence number `since(user)`.
  static Hits Expected(
      const MemoryTopic& topic, const MemorySink& sink, size_t first,
      const std::function<int64_t(const std::string&)>& since = [](const auto&) { return 1; }) {
    const auto answers = Answers(sink);
    std::map<std::string, int64_t> events;
    Hits expected;
    for (const auto& partition : topic.partitions) {
      for (const std::string& line : partition) {
        const json event = json::parse(line);
        const std::string user = event["user_id"];
        const int64_t sequence = ++events[user];
        if (sequence <= since(user)) continue;
        ++expected.lists;
        const json& items = answers.at({user, sequence - 1})["items"];
        for (size_t i = 0; i < std::min(first, items.size()); ++i)
          expected.hits += items[i]["item_id"] == event["item_id"];
      }
    }
    return expected;
  }

  static Hits Found(const Processor& processor) {
    return {processor.pipeline->counts().lists, processor.pipeline->counts().list_hits};
  }

  PipelineOptions options_;
  MemorySink sink_;
};

TEST_F(ListHitsTest, AreTheEventsWhoseItemWasInTheAnswerBeforeWhateverSharesABatch) {
  MemoryTopic topic = RandomTopic(400, TestSeed() + 1);
  for (const size_t max_batch : {1, 13, 256}) {
    MemoryTopic again = topic;
    MemorySink sink;
    options_.max_batch = max_batch;
    Processor processor(temporary_.path() / std::to_string(max_batch), serving_, again, sink, options_);
    processor.Run();
    const Hits expected = Expected(topic, sink, 20);
    EXPECT_EQ(expected.lists, 400 - 7) << "users";
    EXPECT_GT(expected.hits, 40) << "a third of the items are in a list";
    EXPECT_EQ(Found(processor), expected);
  }
}

TEST_F(ListHitsTest, AHundredItemsOfAListAreRemembered) {
  ModelConfig config = SmallConfig();
  config.items = 150;
  const ServingModel large = Serve(config, 4);
  MemoryTopic topic;
  topic.name = "clicks";
  topic.partitions.resize(1);
  for (int n = 0; n < 300; ++n) {
    topic.partitions[0].push_back(
        EventJson("u" + std::to_string(n % 3), "i" + std::to_string(1 + n * 31 % 149), 1000 * n));
  }
  options_.top_k = 149;
  Processor processor(temporary_.path(), large, topic, sink_, options_);
  processor.Run();
  EXPECT_EQ(Found(processor), Expected(topic, sink_, 100));
  EXPECT_LT(Found(processor).hits, Expected(topic, sink_, 149).hits);
}

TEST_F(ListHitsTest, WhoLeftMemoryHasNone) {
  MemoryTopic topic = RandomTopic(100, TestSeed() + 2);
  options_.max_batch = 1;
  options_.hot_cache_bytes = 1;
  Processor processor(temporary_.path(), serving_, topic, sink_, options_);
  processor.Run();
  EXPECT_EQ(Found(processor).lists, 0);
}

TEST_F(ListHitsTest, AnotherModelsListIsNotKnown) {
  MemoryTopic topic = RandomTopic(400, TestSeed() + 3);
  options_.max_batch = 20;
  const ServingModel other = Serve(9);
  Processor processor(temporary_.path(), serving_, topic, sink_, options_);
  processor.Run(10);
  const Hits first = Found(processor);
  EXPECT_GT(first.lists, 100);
  processor.pipeline->Serve(Borrowed(other));
  processor.Run();
  EXPECT_EQ(Found(processor).lists, 400 - 7 - 7) << "each user's first event, by either model";
}

// Answered before a crash: counted then, and a list that others may have published since is not known.
TEST_F(ListHitsTest, EventsThatWereAnsweredBeforeCountNotAgain) {
  MemoryTopic topic = RandomTopic(400, TestSeed() + 4);
  {
    MemoryTopic lost = topic;
    Processor before(temporary_.path() / "lost", serving_, lost, sink_, options_);
    before.Run();
    topic.committed = {{PartitionId{0}, Offset{100}}, {PartitionId{1}, Offset{100}}};
  }
  MemorySink sink;
  Processor processor(temporary_.path() / "new", serving_, topic, sink, options_);
  processor.Run();
  EXPECT_EQ(processor.pipeline->counts().silent, 200);
  EXPECT_EQ(Found(processor).lists, 200 - 7);
}

TEST_F(ListHitsTest, WithoutAnswersThereAreNone) {
  MemoryTopic topic = RandomTopic(100, TestSeed() + 5);
  options_.emit = Emit::kNone;
  Processor processor(temporary_.path(), serving_, topic, sink_, options_);
  processor.Run();
  EXPECT_EQ(Found(processor), Hits());
}

// One answer a user and batch: each event of the next batch is held against it.
TEST_F(ListHitsTest, OfSeveralEventsThatOneRecordAnswersEachCounts) {
  MemoryTopic topic;
  topic.name = "clicks";
  topic.partitions = {
      {EventJson("u", "i1", 1000), EventJson("u", "i2", 2000), EventJson("u", "i3", 3000), EventJson("u", "i4", 4000)}};
  options_.emit = Emit::kLatest;
  options_.max_batch = 2;
  options_.top_k = 59;
  Processor processor(temporary_.path(), serving_, topic, sink_, options_);
  processor.Run();
  EXPECT_EQ(Answers(sink_).size(), 2U);
  EXPECT_EQ(Found(processor), (Hits{2, 2})) << "every item is in it";
}

}  // namespace
}  // namespace freshet
