#include "pipeline/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "features/tokenize.h"
#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

// The same with ids: three in four events carry one, and some are sent again, byte for byte or with another item, up to
// 80 of the log's events later. `unique` is the log without what must drop out.
MemoryTopic TopicWithDuplicates(size_t count, uint64_t seed, MemoryTopic& unique) {
  MemoryTopic topic = RandomTopic(count, seed);
  unique = topic;
  std::mt19937_64 random(seed);
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    std::vector<std::string> sent, first;
    for (size_t n = 0; n < topic.partitions[p].size(); ++n) {
      json event = json::parse(topic.partitions[p][n]);
      if (random() % 4 != 0) event["event_id"] = "e" + std::to_string(n);
      first.push_back(event.dump());
      sent.push_back(first.back());
      if (random() % 3 != 0) continue;
      const size_t back = random() % std::min<size_t>(first.size(), 80);
      json again = json::parse(first[first.size() - 1 - back]);
      if (!again.contains("event_id")) continue;
      if (random() % 2 == 0) again["item_id"] = "i7";
      sent.push_back(again.dump());
    }
    topic.partitions[p] = sent;
    unique.partitions[p] = first;
  }
  return topic;
}

TEST_F(PipelineTest, AnswersEveryEventAsTheFullModelDoes) {
  MemoryTopic topic = RandomTopic(400, TestSeed());
  MemorySink sink;
  Processor processor(temporary_.path(), serving_, topic, sink);
  processor.Run();
  ASSERT_TRUE(processor.pipeline->Close().ok());

  const auto answers = Answers(sink);
  EXPECT_EQ(answers.size(), 400U);
  EXPECT_EQ(processor.pipeline->counts().recommendations, 400);

  // The twin: each user's whole sequence by the book, ranked by a full sort.
  const Model& model = *serving_.model;
  std::map<std::string, std::vector<ModelToken>> sequences;
  for (size_t p = 0; p < topic.partitions.size(); ++p) {
    for (size_t offset = 0; offset < topic.partitions[p].size(); ++offset) {
      const json event = json::parse(topic.partitions[p][offset]);
      const std::string user = event["user_id"];
      const std::string item = event["item_id"];
      Event decoded;
      decoded.item_id = item;
      decoded.event_type = "view";
      decoded.timestamp_ms = event["timestamp"];
      std::vector<ModelToken>& tokens = sequences[user];
      tokens.push_back(ToModelToken(MakeToken(decoded), model.vocabulary));
      const std::vector<float> vectors = FullForward(model, tokens);
      std::vector<ItemRow> seen;
      for (size_t i = tokens.size() - std::min(tokens.size(), model.config.exact_history()); i < tokens.size(); ++i)
        seen.push_back(tokens[i].item);
      std::vector<ScoredItem> top(100);
      RankRequest request{&vectors[(tokens.size() - 1) * 16], seen, top};
      TopKPlain(model, {&request, 1});

      const json& answer = answers.at({user, static_cast<int64_t>(tokens.size())});
      EXPECT_EQ(answer["source"],
                (json{{"topic", "clicks"}, {"partition", p}, {"offset", offset}, {"event_time", event["timestamp"]}}));
      ASSERT_EQ(answer["items"].size(), request.found);
      for (size_t i = 0; i < request.found; ++i)
        EXPECT_NEAR(answer["items"][i]["score"].get<float>(), top[i].score, 2e-4 * (1 + std::abs(top[i].score)));
    }
  }
}

TEST_F(PipelineTest, BatchSizeChangesNothing) {
  const MemoryTopic all = RandomTopic(600, TestSeed() + 1);
  std::string digests[2];
  MemorySink sinks[2];
  for (const int which : {0, 1}) {
    MemoryTopic topic = all;
    PipelineOptions options;
    options.max_batch = which == 0 ? 1 : 256;
    Processor processor(temporary_.path() / std::to_string(which), serving_, topic, sinks[which], options);
    processor.Run();
    ASSERT_TRUE(processor.pipeline->Close().ok());
    digests[which] = DigestOf(*processor.states);
  }
  EXPECT_EQ(digests[0], digests[1]);
  ExpectSameAnswers(sinks[0], sinks[1]);
}

TEST_F(PipelineTest, CrashesChangeNothing) {
  const MemoryTopic all = RandomTopic(600, TestSeed() + 2);
  MemorySink expected;
  MemoryTopic once = all;
  Processor oracle(temporary_.path() / "oracle", serving_, once, expected);
  oracle.Run();
  ASSERT_TRUE(oracle.pipeline->Close().ok());

  MemorySink sink;
  MemoryTopic topic = all;
  PipelineOptions options;
  options.max_batch = 7;
  options.commit_interval = std::chrono::milliseconds(0);
  for (int life = 0; life < 20; ++life) {
    Processor processor(temporary_.path() / "crashing", serving_, topic, sink, options);
    processor.Run(5);
    ASSERT_TRUE(sink.Abort().ok());  // the process is gone: what it had not committed was never seen
  }
  Processor last(temporary_.path() / "crashing", serving_, topic, sink, options);
  last.Run();
  ASSERT_TRUE(last.pipeline->Close().ok());
  EXPECT_EQ(DigestOf(*last.states), DigestOf(*oracle.states));
  ExpectSameAnswers(sink, expected);
}

// Whatever the batches and restarts, a log that holds events twice gives the answers and the state of one that does
// not.
TEST_F(PipelineTest, DuplicatesChangeNothing) {
  MemoryTopic unique;
  const MemoryTopic all = TopicWithDuplicates(600, TestSeed() + 7, unique);
  int64_t duplicates = 0;
  for (size_t p = 0; p < 2; ++p) duplicates += std::ssize(all.partitions[p]) - std::ssize(unique.partitions[p]);
  ASSERT_GT(duplicates, 50);
  MemorySink expected;
  Processor oracle(temporary_.path() / "oracle", serving_, unique, expected);
  oracle.Run();
  ASSERT_TRUE(oracle.pipeline->Close().ok());
  EXPECT_EQ(oracle.pipeline->counts().duplicates, 0);
  const auto right = Answers(expected);
  ASSERT_EQ(right.size(), 600U);

  for (const size_t max_batch : {1, 256, 13}) {
    const std::filesystem::path directory = temporary_.path() / std::to_string(max_batch);
    MemorySink sink;
    MemoryTopic topic = all;
    PipelineOptions options;
    options.max_batch = max_batch;
    int64_t dropped = 0;
    for (const int steps : {3, 20, 1'000'000}) {  // lives that end orderly
      Processor processor(directory, serving_, topic, sink, options);
      processor.Run(steps);
      ASSERT_TRUE(processor.pipeline->Close().ok());
      EXPECT_EQ(processor.pipeline->counts().repeats, 0);
      dropped += processor.pipeline->counts().duplicates;
      if (steps == 1'000'000) {
        EXPECT_EQ(DigestOf(*processor.states), DigestOf(*oracle.states));
      }
    }
    EXPECT_EQ(dropped, duplicates);
    const auto left = Answers(sink);  // by user and sequence number: none twice, none left out
    ASSERT_EQ(left.size(), right.size());
    for (const auto& [key, answer] : right) {
      const json& other = left.at(key);
      EXPECT_EQ(other["source"]["event_time"], answer["source"]["event_time"]);
      EXPECT_NEAR(other["items"][0]["score"].get<float>(), answer["items"][0]["score"].get<float>(), 1e-3);
    }
  }
}

TEST_F(PipelineTest, DuplicatesAreDroppedAgainAfterACrash) {
  MemoryTopic unique;
  const MemoryTopic all = TopicWithDuplicates(400, TestSeed() + 8, unique);
  MemorySink expected;
  MemoryTopic once = all;
  Processor oracle(temporary_.path() / "oracle", serving_, once, expected);
  oracle.Run();
  ASSERT_TRUE(oracle.pipeline->Close().ok());
  ASSERT_GT(oracle.pipeline->counts().duplicates, 30);

  MemorySink sink;
  MemoryTopic topic = all;
  PipelineOptions options;
  options.max_batch = 7;
  options.commit_interval = std::chrono::milliseconds(0);
  for (int life = 0; life < 10; ++life) {
    Processor processor(temporary_.path() / "crashing", serving_, topic, sink, options);
    processor.Run(5);
    ASSERT_TRUE(sink.Abort().ok());
  }
  Processor last(temporary_.path() / "crashing", serving_, topic, sink, options);
  last.Run();
  ASSERT_TRUE(last.pipeline->Close().ok());
  EXPECT_EQ(DigestOf(*last.states), DigestOf(*oracle.states));
  ExpectSameAnswers(sink, expected);

  MemorySink silence;
  MemoryTopic answered = once;  // its committed positions are at the end
  Processor silent(temporary_.path() / "silent", serving_, answered, silence);
  silent.Run();
  ASSERT_TRUE(silent.pipeline->Close().ok());
  EXPECT_EQ(DigestOf(*silent.states), DigestOf(*oracle.states));
  EXPECT_TRUE(silence.committed().empty());
}

// The newest event of a batch is answered also where only a duplicate comes after it.
TEST_F(PipelineTest, LatestAnswersTheNewestEventThatIsNoDuplicate) {
  const auto with_id = [](const std::string& item, const std::string& id) {
    json event = json::parse(EventJson("u1", item, 1'600'000'000'000));
    event["event_id"] = id;
    return event.dump();
  };
  MemoryTopic topic;
  topic.partitions = {{with_id("i1", "a"), with_id("i2", "b"), with_id("i1", "a"), with_id("i3", "b")}};
  MemorySink sink;
  PipelineOptions options;
  options.emit = Emit::kLatest;
  Processor processor(temporary_.path(), serving_, topic, sink, options);
  processor.Run();
  const auto answers = Answers(sink);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers.at({"u1", 2})["source"]["offset"], 1);
  EXPECT_EQ(answers.at({"u1", 2})["items"].size(), 57U) << "of 59 items, i1 and i2 are seen";
  EXPECT_EQ(processor.pipeline->counts().duplicates, 2);
}

// A crash after the outputs were committed and before the state was: the records in between change state and are not
// answered again.
TEST_F(PipelineTest, WhatWasAnsweredIsReplayedSilently) {
  const MemoryTopic all = RandomTopic(300, TestSeed() + 3);
  MemorySink expected;
  MemoryTopic once = all;
  Processor oracle(temporary_.path() / "oracle", serving_, once, expected);
  oracle.Run();
  ASSERT_TRUE(oracle.pipeline->Close().ok());

  MemorySink sink;
  MemoryTopic topic = once;  // its committed positions are at the end
  {
    Processor silent(temporary_.path() / "behind", serving_, topic, sink);
    silent.Run();
    ASSERT_TRUE(silent.pipeline->Close().ok());
    EXPECT_EQ(silent.pipeline->counts().silent, 300);
    EXPECT_EQ(DigestOf(*silent.states), DigestOf(*oracle.states));
  }
  EXPECT_TRUE(sink.committed().empty());
  EXPECT_EQ(topic.committed, once.committed);

  topic.partitions[0].push_back(EventJson("u0", "i1", 1'700'000'000'000));
  Processor live(temporary_.path() / "behind", serving_, topic, sink);
  live.Run();
  EXPECT_EQ(sink.committed().size(), 1U);
}

// Where reading begins without a state is the source's to say (Kafka: source.start, what the log still holds). A 0 made
// up here would be taken for a state that waits for records long gone.
TEST_F(PipelineTest, NoPositionIsCommittedOfAPartitionThatDeliveredNothing) {
  MemoryTopic topic;
  topic.partitions = {{}, {EventJson("u1", "i1", 1'600'000'000'000)}};
  MemorySink sink;
  PipelineOptions options;
  options.commit_interval = std::chrono::milliseconds(0);
  Processor processor(temporary_.path(), serving_, topic, sink, options);
  processor.Run();
  ASSERT_TRUE(processor.pipeline->Close().ok());
  EXPECT_EQ(topic.committed, (std::map<PartitionId, Offset>{{PartitionId{1}, Offset{1}}}));
  EXPECT_EQ(processor.states->OpenPartition(PartitionId{0}).value()->Position(), std::nullopt);
  EXPECT_EQ(processor.states->OpenPartition(PartitionId{1}).value()->Position(), Offset{1});
}

TEST_F(PipelineTest, AnotherModelOnTheSameStateRebuildsItsKeysAndValues) {
  const MemoryTopic all = RandomTopic(200, TestSeed() + 4);
  const ServingModel other = Serve(77);
  MemorySink ignored, swapped, fresh;
  MemoryTopic topic = all;
  {
    Processor first(temporary_.path() / "swap", serving_, topic, ignored);
    first.Run();
    ASSERT_TRUE(first.pipeline->Close().ok());
  }
  MemoryTopic same = all;
  for (MemoryTopic* both : {&topic, &same}) both->partitions[1].push_back(EventJson("u1", "i5", 1'700'000'000'000));
  Processor second(temporary_.path() / "swap", other, topic, swapped);
  second.Run();
  Processor only(temporary_.path() / "fresh", other, same, fresh);
  only.Run();
  ASSERT_EQ(swapped.committed().size(), 1U);
  const json after = json::parse(swapped.committed()[0].value);
  const json expected = Answers(fresh).at({"u1", after["sequence_number"].get<int64_t>()});
  for (size_t i = 0; i < expected["items"].size(); ++i) {
    EXPECT_NEAR(after["items"][i]["score"].get<float>(), expected["items"][i]["score"].get<float>(), 1e-3);
  }
}

TEST_F(PipelineTest, BadRecordsBecomeDeadLettersAndTheRestGoesOn) {
  MemoryTopic topic;
  topic.partitions = {
      {EventJson("u1", "i1", 1'600'000'000'000), "{", R"({"user_id":"u1"})", EventJson("u1", "i2", 1'600'000'001'000)}};
  MemorySink sink;
  Processor processor(temporary_.path(), serving_, topic, sink);
  processor.Run();
  EXPECT_EQ(Answers(sink).size(), 2U);
  std::vector<std::string> values;
  for (const auto& record : sink.committed()) {
    if (record.stream == Stream::kDeadLetters) values.push_back(record.value);
  }
  EXPECT_THAT(values, testing::ElementsAre("{", R"({"user_id":"u1"})"));
  EXPECT_EQ(processor.pipeline->counts().dead_letters, 2);
  EXPECT_EQ(topic.committed[PartitionId{0}], Offset{4});
}

TEST_F(PipelineTest, EmitModesAnswerWhatTheyPromise) {
  const MemoryTopic all = RandomTopic(300, TestSeed() + 5);
  const auto run = [&](Emit emit, const std::string& name, MemorySink& sink) {
    MemoryTopic topic = all;
    PipelineOptions options;
    options.emit = emit;
    options.max_batch = emit == Emit::kFinal ? 3 : 50;  // the users take several batches
    Processor processor(temporary_.path() / name, serving_, topic, sink, options);
    processor.Run();
    EXPECT_TRUE(processor.pipeline->Finished());
    for (bool more = emit == Emit::kFinal; more;) {
      const auto state = processor.pipeline->EmitFinal();
      EXPECT_TRUE(state.ok());
      more = state.ok() && *state == PollState::kMore;
      EXPECT_EQ(processor.pipeline->Finished(), !more);
    }
    EXPECT_TRUE(processor.pipeline->Close().ok());
    return DigestOf(*processor.states);
  };
  MemorySink every, latest, final, none;
  const std::string digest = run(Emit::kEvery, "every", every);
  EXPECT_EQ(run(Emit::kLatest, "latest", latest), digest);
  EXPECT_EQ(run(Emit::kFinal, "final", final), digest);
  EXPECT_EQ(run(Emit::kNone, "none", none), digest);
  EXPECT_TRUE(none.committed().empty());
  const auto all_answers = Answers(every), latest_answers = Answers(latest), final_answers = Answers(final);
  EXPECT_EQ(final_answers.size(), 7U);
  EXPECT_LE(latest_answers.size(), 6U * 7U);
  for (const auto* some : {&latest_answers, &final_answers}) {
    for (const auto& [key, answer] : *some) {
      const json& expected = all_answers.at(key);
      EXPECT_EQ(answer["source"], expected["source"]);
      EXPECT_NEAR(answer["items"][0]["score"].get<float>(), expected["items"][0]["score"].get<float>(), 1e-3);
    }
  }
}

TEST_F(PipelineTest, LiveAnswersEqualTheNewestRecommendation) {
  MemoryTopic topic = RandomTopic(100, TestSeed() + 6);
  MemorySink sink;
  for (const bool hot : {true, false}) {
    PipelineOptions options;
    options.keep_user_vectors = true;
    if (!hot) options.hot_cache_bytes = 0;
    MemorySink ignored;
    MemoryTopic same = topic;
    Processor processor(temporary_.path() / (hot ? "hot" : "cold"), serving_, same, hot ? sink : ignored, options);
    processor.Run();
    for (int user = 0; user < 7; ++user) {
      const std::string id = "u" + std::to_string(user);
      const auto answer = processor.Ask({id, 5});
      ASSERT_TRUE(answer.ok() && answer->has_value());
      const json live = json::parse(**answer);
      const json newest = Answers(sink).at({id, live["sequence_number"].get<int64_t>()});
      EXPECT_EQ(live["items"].size(), 5U);
      EXPECT_EQ(live["source"], newest["source"]);
      for (size_t i = 0; i < 5; ++i)
        EXPECT_NEAR(live["items"][i]["score"].get<float>(), newest["items"][i]["score"].get<float>(), 1e-3);
    }
    const auto nobody = processor.Ask({"nobody", 5});
    ASSERT_TRUE(nobody.ok());
    EXPECT_FALSE(nobody->has_value());
  }
}

TEST_F(PipelineTest, QueriesTogetherAreAnsweredAsOneByOne) {
  MemoryTopic topic = RandomTopic(100, TestSeed() + 8);
  std::vector<LiveQuery> queries;
  for (const int user : {3, 1, 3, 9, 0, 6, 2}) {  // one twice, one who is nobody
    const std::string id = "u" + std::to_string(user);
    queries.push_back({id, 3 + user});
    queries.push_back({id, 0, LiveQuery::Kind::kRank, {"i1", "i5"}});
    queries.push_back({id, 0, LiveQuery::Kind::kShow});
  }
  std::vector<const LiveQuery*> all;
  for (const LiveQuery& query : queries) all.push_back(&query);
  const auto said = [](const LiveAnswer& answer) {
    if (!answer.ok() || !answer->has_value()) return json();
    json value = json::parse(**answer);
    value.erase("generated_at");
    return value;
  };
  for (const size_t hot_cache : {size_t{1} << 30, size_t{0}}) {  // none: each goes from memory for the next
    PipelineOptions options;
    options.keep_user_vectors = true;
    options.include_user_vector = true;
    options.hot_cache_bytes = hot_cache;
    MemorySink sink;
    MemoryTopic same = topic;
    Processor processor(temporary_.path() / std::to_string(hot_cache), serving_, same, sink, options);
    processor.Run();
    const std::vector<LiveAnswer> together = processor.pipeline->Answer(all);
    ASSERT_EQ(together.size(), queries.size());
    for (size_t i = 0; i < queries.size(); ++i) {
      const json one = said(processor.Ask(queries[i]));
      const json found = said(together[i]);
      ASSERT_EQ(one.is_null(), queries[i].user_id == "u9");
      ASSERT_EQ(found.is_null(), one.is_null());
      if (one.is_null() || queries[i].kind != LiveQuery::Kind::kRecommend) {
        EXPECT_EQ(found, one);
        continue;
      }
      EXPECT_EQ(found["user_id"], queries[i].user_id);
      EXPECT_EQ(found["source"], one["source"]);
      EXPECT_EQ(found["user_vector"], one["user_vector"]);
      ASSERT_EQ(found["items"].size(), static_cast<size_t>(queries[i].k));
      for (size_t n = 0; n < found["items"].size(); ++n) {
        EXPECT_NEAR(found["items"][n]["score"].get<float>(), one["items"][n]["score"].get<float>(), 1e-4);
      }
    }
  }
}

TEST_F(PipelineTest, RanksGivenItemsAsRecommendationsDo) {
  MemoryTopic topic = RandomTopic(100, TestSeed() + 7);
  MemorySink sink;
  PipelineOptions options;
  options.exclude_seen = false;
  options.keep_user_vectors = true;
  Processor processor(temporary_.path(), serving_, topic, sink, options);
  processor.Run();
  const json all = json::parse(**processor.Ask({"u1", 100}));
  LiveQuery query{.user_id = "u1", .kind = LiveQuery::Kind::kRank};
  std::map<std::string, float> expected;
  for (size_t i = all["items"].size(); i-- > 0; i -= std::min<size_t>(i, 6)) {  // worst first
    query.items.push_back(all["items"][i]["item_id"]);
    expected[query.items.back()] = all["items"][i]["score"];
  }
  query.items.insert(query.items.end(), {query.items[0], "no \"such\" item", "[unknown]"});
  const json ranked = json::parse(**processor.Ask(query));
  EXPECT_EQ(ranked["sequence_number"], all["sequence_number"]);
  EXPECT_EQ(ranked["source"], all["source"]);
  EXPECT_EQ(ranked["unknown_items"], json({"no \"such\" item", "[unknown]"}));
  ASSERT_EQ(ranked["items"].size(), expected.size());
  float before = std::numeric_limits<float>::infinity();
  for (const json& item : ranked["items"]) {
    const float score = item["score"];
    EXPECT_NEAR(score, expected.at(item["item_id"]), 1e-4);
    EXPECT_LE(score, before);
    before = score;
  }
  query.user_id = "nobody";
  EXPECT_FALSE(processor.Ask(query).value().has_value());
  query.user_id = "u2";
  query.items = {"nothing", "of this"};
  EXPECT_EQ(json::parse(**processor.Ask(query))["items"], json::array());
}

TEST_F(PipelineTest, ShowsAUsersState) {
  MemoryTopic topic;
  topic.partitions = {{EventJson("u1", "i1", 1'600'000'000'000), EventJson("u1", "new", 1'600'000'000'001)}};
  MemorySink sink;
  Processor processor(temporary_.path(), serving_, topic, sink, {});
  processor.Run();
  const json user = json::parse(**processor.Ask({.user_id = "u1", .k = 0, .kind = LiveQuery::Kind::kShow}));
  EXPECT_EQ(user["user_id"], "u1");
  EXPECT_EQ(user["sequence_number"], 2);
  EXPECT_EQ(user["partition"], 0);
  EXPECT_EQ(user["applied_offset"], 1);
  EXPECT_EQ(user["profile"]["events"], 2);
  EXPECT_EQ(user["profile"]["last_time"], 1'600'000'000'001);
  ASSERT_EQ(user["tokens"].size(), 2U);
  EXPECT_EQ(user["tokens"][0]["item_id"], "i1");
  EXPECT_EQ(user["tokens"][0]["timestamp"], 1'600'000'000'000);
  EXPECT_EQ(user["tokens"][1]["item_id"], "[unknown]");
}

TEST_F(PipelineTest, SeenItemsAreLeftOutOnlyWhereConfigured) {
  MemoryTopic topic;
  topic.partitions = {{}};
  for (int i = 1; i <= 5; ++i)
    topic.partitions[0].push_back(EventJson("u1", "i" + std::to_string(i), 1'600'000'000'000 + i));
  for (const bool exclude : {true, false}) {
    PipelineOptions options;
    options.exclude_seen = exclude;
    MemorySink sink;
    MemoryTopic same = topic;
    Processor processor(temporary_.path() / (exclude ? "without" : "with"), serving_, same, sink, options);
    processor.Run();
    const json newest = Answers(sink).at({"u1", 5});
    EXPECT_EQ(newest["items"].size(), exclude ? 54U : 59U);
    for (const json& item : newest["items"]) {
      const int row = std::stoi(item["item_id"].get<std::string>().substr(1));
      EXPECT_TRUE(!exclude || row > 5) << row;
    }
  }
}

}  // namespace
}  // namespace freshet
