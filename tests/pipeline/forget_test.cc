// Users who are forgotten, at a record of the input that has their id and no value: whatever the batches, crashes and
// restores, they begin anew behind it.
#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A user's record of the output: an answer, or (0) that the user was forgotten.
struct Told {
  int64_t sequence_number = 0;
  int64_t offset = -1;
  float best_score = 0;
};
using ToldByUser = std::map<std::string, std::vector<Told>>;

ToldByUser ToldBy(const MemorySink& sink) {
  ToldByUser told;
  for (const MemorySink::Kept& kept : sink.committed()) {
    if (kept.stream != Stream::kRecommendations) continue;
    Told& record = told[kept.key].emplace_back();
    if (kept.tombstone) continue;
    const json value = json::parse(kept.value);
    EXPECT_EQ(value["user_id"], kept.key);
    record = {value["sequence_number"], value["source"]["offset"], value["items"][0]["score"]};
  }
  return told;
}

void ExpectSame(const ToldByUser& left, const ToldByUser& right) {
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [user, expected] : right) {
    const std::vector<Told>& found = left.at(user);
    ASSERT_EQ(found.size(), expected.size()) << user;
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].sequence_number, expected[i].sequence_number) << user << " " << i;
      EXPECT_EQ(found[i].offset, expected[i].offset) << user << " " << i;
      EXPECT_NEAR(found[i].best_score, expected[i].best_score, 1e-3) << user << " " << i;
    }
  }
}

// A random topic with keys, and a tombstone in place of about one event in twelve. `alive`: users who are not forgotten
// at its end.
MemoryTopic TopicWithTombstones(size_t count, uint64_t seed, std::set<std::string>& alive) {
  MemoryTopic topic = RandomTopic(count, seed);
  std::mt19937_64 random(seed);
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    topic.keys.emplace_back();
    for (size_t offset = 0; offset < topic.partitions[p].size(); ++offset) {
      const std::string user = json::parse(topic.partitions[p][offset])["user_id"];
      topic.keys[p].push_back(user);
      alive.insert(user);
      if (random() % 12 != 0) continue;
      topic.tombstones.emplace(p, offset);
      topic.partitions[p][offset].clear();
      alive.erase(user);
    }
  }
  return topic;
}

// By the book: what a topic's consumers are told of each user, but for the scores.
ToldByUser Expected(const MemoryTopic& topic) {
  ToldByUser told;
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    std::map<std::string, int64_t> events;
    for (size_t offset = 0; offset < topic.partitions[p].size(); ++offset) {
      const std::string& user = topic.keys[p][offset];
      const bool forgotten = topic.tombstones.contains({static_cast<int32_t>(p), static_cast<int64_t>(offset)});
      if (forgotten) {
        events[user] = 0;
        told[user].emplace_back();
      } else {
        told[user].push_back({++events[user], static_cast<int64_t>(offset), 0});
      }
    }
  }
  return told;
}

class ForgetTest : public PipelineTest {
 protected:
  // One event after another.
  void RunOracle() {
    MemoryTopic topic = all_;
    PipelineOptions options;
    options.max_batch = 1;
    Processor oracle(temporary_.path() / "oracle", serving_, topic, expected_, options);
    oracle.Run();
    ASSERT_TRUE(oracle.pipeline->Close().ok());
    digest_ = DigestOf(*oracle.states);
  }

  void ExpectAsOracle(Processor& last, const MemorySink& sink) {
    ASSERT_TRUE(last.pipeline->Close().ok());
    EXPECT_EQ(DigestOf(*last.states), digest_);
    ExpectSame(ToldBy(sink), ToldBy(expected_));
  }

  std::set<std::string> alive_;
  const MemoryTopic all_ = TopicWithTombstones(600, TestSeed() + 40, alive_);
  MemorySink expected_;
  std::string digest_;
};

TEST_F(ForgetTest, TheyBeginAnew) {
  RunOracle();
  ToldByUser told = ToldBy(expected_);
  for (auto& [user, records] : told)
    for (Told& record : records) record.best_score = 0;
  ExpectSame(told, Expected(all_));
}

// The answers behind a tombstone are those of a user whose events before it never were.
TEST_F(ForgetTest, NothingOfBeforeIsInAnAnswer) {
  RunOracle();
  const ToldByUser told = ToldBy(expected_);
  for (size_t p = 0; p < all_.partitions.size(); ++p) {
    MemoryTopic rest = all_;
    rest.tombstones.clear();
    std::map<std::string, size_t> begin;  // behind the user's last tombstone
    for (const auto& [partition, offset] : all_.tombstones) {
      if (static_cast<size_t>(partition) == p)
        begin[all_.keys[p][static_cast<size_t>(offset)]] = static_cast<size_t>(offset);
    }
    rest.partitions = {{}, {}};
    rest.keys.clear();
    for (size_t offset = 0; offset < all_.partitions[p].size(); ++offset) {
      const std::string& user = all_.keys[p][offset];
      if (begin.contains(user) && offset > begin[user]) rest.partitions[0].push_back(all_.partitions[p][offset]);
    }
    MemorySink sink;
    Processor anew(temporary_.path() / ("anew" + std::to_string(p)), serving_, rest, sink);
    anew.Run();
    ASSERT_TRUE(anew.pipeline->Close().ok());
    for (const auto& [user, records] : ToldBy(sink)) {
      const Told& last = told.at(user).back();
      EXPECT_EQ(last.sequence_number, records.back().sequence_number) << user;
      EXPECT_NEAR(last.best_score, records.back().best_score, 1e-3) << user;
    }
  }
}

TEST_F(ForgetTest, WhateverTheBatchesAndTheCrashes) {
  RunOracle();
  for (const size_t max_batch : {7, 64, 600}) {
    MemorySink sink;
    MemoryTopic topic = all_;
    PipelineOptions options;
    options.max_batch = max_batch;
    options.commit_interval = std::chrono::milliseconds(0);
    options.keep_user_vectors = true;
    const std::filesystem::path directory = temporary_.path() / std::to_string(max_batch);
    for (int life = 0; life < 10; ++life) {
      Processor processor(directory, serving_, topic, sink, options);
      processor.Run(3);
      ASSERT_TRUE(sink.Abort().ok());  // the process is gone
    }
    Processor last(directory, serving_, topic, sink, options);
    last.Run();
    for (int user = 0; user < 7; ++user) {
      const std::string id = "u" + std::to_string(user);
      const LiveAnswer answer = last.Ask({.user_id = id, .k = 5});
      ASSERT_TRUE(answer.ok());
      EXPECT_EQ(answer->has_value(), alive_.contains(id)) << id;
    }
    ExpectAsOracle(last, sink);
  }
}

TEST_F(ForgetTest, WhatWasToldBeforeIsNotToldAgain) {
  RunOracle();
  MemoryTopic answered = all_;
  MemorySink first, silence;
  {
    Processor processor(temporary_.path() / "first", serving_, answered, first);
    processor.Run();
    ASSERT_TRUE(processor.pipeline->Close().ok());
  }
  Processor silent(temporary_.path() / "silent", serving_, answered, silence);  // its disk is empty
  silent.Run();
  ASSERT_TRUE(silent.pipeline->Close().ok());
  EXPECT_EQ(DigestOf(*silent.states), digest_);
  EXPECT_THAT(silence.committed(), IsEmpty());
}

// Each life begins with an empty disk, at a snapshot that is as old as it may be, and reads the rest of the input.
TEST_F(ForgetTest, ARestoreBringsNobodyBack) {
  RunOracle();
  MemorySink sink;
  Snapshots snapshots(sink);
  MemoryTopic topic = all_;
  PipelineOptions options;
  options.max_batch = 5;
  options.commit_interval = std::chrono::milliseconds(0);
  for (int life = 0; life < 12; ++life) {
    options.snapshots = snapshots.options();
    Processor processor(temporary_.path() / ("life" + std::to_string(life)), serving_, topic, sink, options);
    processor.Run(10);
    ASSERT_TRUE(sink.Abort().ok());
  }
  options.snapshots = snapshots.options();
  Processor last(temporary_.path() / "last", serving_, topic, sink, options);
  last.Run();
  // Time goes by: what is left of forgotten users is in the snapshot, and goes.
  for (int cycle = 0; cycle < 5; ++cycle) {
    for (size_t p = 0; p < 2; ++p) {
      topic.partitions[p].push_back(EventJson("u" + std::to_string(p), "i1", 1'600'000'000'000 + cycle));
      topic.keys[p].push_back("u" + std::to_string(p));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    last.Run();
  }
  ASSERT_TRUE(last.pipeline->Close().ok());
  alive_.insert({"u0", "u1"});
  int64_t tombstones = 0;
  for (int32_t p = 0; p < 2; ++p) {
    const MemoryTopic& compacted = snapshots.Compacted(PartitionId{p});
    for (size_t n = 0; n < compacted.keys[0].size(); ++n) {
      const std::string user(UserOfSnapshotKey(compacted.keys[0][n]));
      if (user.empty()) continue;
      const bool tombstone = compacted.tombstones.contains({0, static_cast<int64_t>(n)});
      tombstones += tombstone ? 1 : 0;
      EXPECT_EQ(tombstone, !alive_.contains(user)) << user;
    }
  }
  EXPECT_EQ(tombstones + std::ssize(alive_), 7);
  for (const PartitionId id : last.states->Partitions().value()) {
    auto store = last.states->OpenPartition(id).value();
    std::string after;
    const auto check = [&](const StoredUser& user) {
      EXPECT_TRUE(alive_.contains(std::string(user.id))) << user.id;
      return true;
    };
    EXPECT_FALSE(store->Scan(after, 100, check).value());
  }
  MemorySink once;
  MemoryTopic whole = topic;
  whole.committed.clear();
  Processor again(temporary_.path() / "again", serving_, whole, once);
  again.Run();
  ASSERT_TRUE(again.pipeline->Close().ok());
  EXPECT_EQ(DigestOf(*last.states), DigestOf(*again.states));
  ExpectSame(ToldBy(sink), ToldBy(once));
}

TEST_F(ForgetTest, OfAUserInABatchOnlyTheLatestIsTold) {
  MemorySink sink;
  MemoryTopic topic = all_;
  PipelineOptions options;
  options.max_batch = 600;
  options.emit = Emit::kLatest;
  Processor processor(temporary_.path() / "latest", serving_, topic, sink, options);
  processor.Run();
  ASSERT_TRUE(processor.pipeline->Close().ok());
  RunOracle();
  EXPECT_EQ(DigestOf(*processor.states), digest_);
  const ToldByUser oracle = ToldBy(expected_);
  for (const auto& [user, told] : ToldBy(sink)) {
    EXPECT_EQ(told.back().sequence_number, oracle.at(user).back().sequence_number);
    EXPECT_NEAR(told.back().best_score, oracle.at(user).back().best_score, 1e-3);
  }
}

TEST_F(ForgetTest, AKeyThatIsNoUserIsADeadLetter) {
  MemoryTopic topic;
  topic.partitions = {{"", "", "", EventJson("u1", "i1", 1'600'000'000'000), ""}};
  topic.keys = {{"", "\xff", std::string(2000, 'u'), "u1", "u2"}};
  topic.tombstones = {{0, 0}, {0, 1}, {0, 2}};  // the last has an empty value, which is not none
  MemorySink sink;
  Processor processor(temporary_.path() / "state", serving_, topic, sink);
  processor.Run();
  ASSERT_TRUE(processor.pipeline->Close().ok());
  std::vector<std::string> codes;
  for (const MemorySink::Kept& kept : sink.committed()) {
    if (kept.stream == Stream::kDeadLetters) codes.push_back(kept.headers[0].second);
  }
  EXPECT_THAT(codes, testing::ElementsAre("invalid_json", "invalid_utf8", "user_id_too_long", "invalid_json"));
  EXPECT_THAT(sink.committed()[1].headers[1].second, HasSubstr("the key of a record without a value"));
  EXPECT_EQ(processor.pipeline->counts().forgotten, 0);
}

}  // namespace
}  // namespace freshet
