#include "ingest/encoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/ingest/files_for_tests.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using nlohmann::json;

Recommendation Example(std::span<const ScoredItem> items) {
  Recommendation recommendation;
  recommendation.user_id = "u1";
  recommendation.generated_at_ms = 1506826800031;
  recommendation.sequence_number = 17;
  recommendation.topic = "freshet.events";
  recommendation.partition = PartitionId{3};
  recommendation.offset = Offset{4711};
  recommendation.event_time_ms = 1506826800026;
  recommendation.items = items;
  return recommendation;
}

TEST(RecommendationEncoder, TheFormOfTheInterface) {
  const std::vector<std::string> ids{"[unknown]", "i7", "i42"};
  const JsonRecommendationEncoder encoder("demo", "9f2c", ids);
  const std::vector<ScoredItem> items{{ItemRow{2}, 0.8312f}, {ItemRow{1}, -0.5f}};
  const std::vector<float> vector{0.01f, -0.2f};
  Recommendation recommendation = Example(items);
  std::string out = "before ";
  encoder.Encode(recommendation, out);
  const std::string head =
      R"({"user_id":"u1","generated_at":1506826800031,"sequence_number":17,"model":{"name":"demo","version":"9f2c"},)"
      R"("source":{"topic":"freshet.events","partition":3,"offset":4711,"event_time":1506826800026},)"
      R"("items":[{"item_id":"i42","score":0.8312},{"item_id":"i7","score":-0.5}])";
  EXPECT_EQ(out, "before " + head + "}");
  recommendation.user_vector = vector;
  out.clear();
  encoder.Encode(recommendation, out);
  EXPECT_EQ(out, head + R"(,"user_vector":[0.01,-0.2]})");
}

TEST(RecommendationEncoder, NoItems) {
  const JsonRecommendationEncoder encoder("m", "v", {});
  std::string out;
  encoder.Encode(Example({}), out);
  EXPECT_TRUE(json::parse(out).at("items").empty());
}

TEST(RecommendationEncoder, IsReadBackWithTheSameFloatsAndAnyNames) {
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> score(0, 3);
  const std::vector<std::string> ids{"[unknown]", "a\"b",       "back\\slash", "tab\there",
                                     "caf\u00e9", "\U0001F600", "\x01"};
  const JsonRecommendationEncoder encoder("mo\"del", "v\n1", ids);
  for (int round = 0; round < 200; ++round) {
    std::vector<ScoredItem> items;
    for (int i = 0; i < 50; ++i)
      items.push_back({ItemRow{static_cast<uint32_t>(random() % ids.size())}, score(random)});
    Recommendation recommendation = Example(items);
    recommendation.user_id = ids[random() % ids.size()];
    recommendation.topic = ids[random() % ids.size()];
    std::string out;
    encoder.Encode(recommendation, out);
    const json read = json::parse(out);
    ASSERT_EQ(read.at("user_id"), recommendation.user_id);
    ASSERT_EQ(read.at("model").at("name"), "mo\"del");
    ASSERT_EQ(read.at("model").at("version"), "v\n1");
    ASSERT_EQ(read.at("source").at("topic"), recommendation.topic);
    ASSERT_EQ(read.at("items").size(), items.size());
    for (size_t i = 0; i < items.size(); ++i) {
      ASSERT_EQ(read.at("items")[i].at("item_id"), ids[Raw(items[i].row)]);
      ASSERT_EQ(read.at("items")[i].at("score").get<float>(), items[i].score);
    }
  }
}

TEST(RecommendationEncoder, NothingIsLargerThanItSays) {
  const std::string user(1024, '\x01');
  const std::vector<std::string> items = {"i", std::string(1024, '"'), "long one", "j"};
  const JsonRecommendationEncoder encoder("m\n", "v", items);
  const float widest = -1.00000007e-5F;  // as wide as scores get
  const std::vector<float> vector(64, widest);
  std::string out;
  const std::vector<ScoredItem> top = {{ItemRow{1}, widest}, {ItemRow{2}, widest}};
  encoder.Encode({.user_id = user,
                  .generated_at_ms = std::numeric_limits<int64_t>::min(),
                  .sequence_number = std::numeric_limits<int64_t>::max(),
                  .topic = "t\"",
                  .partition = PartitionId{std::numeric_limits<int32_t>::max()},
                  .offset = Offset{std::numeric_limits<int64_t>::max()},
                  .event_time_ms = std::numeric_limits<int64_t>::min(),
                  .items = top,
                  .user_vector = vector},
                 out);
  const size_t most = encoder.MaxBytes(user.size(), "t\"", 2, vector.size());
  EXPECT_LE(out.size(), most);
  EXPECT_GT(out.size() + 12 * (top.size() + vector.size()), most) << "nor does it say much more";
  EXPECT_EQ(encoder.MaxBytes(0, "t", 4, 0), encoder.MaxBytes(0, "t", 10'000, 0)) << "a model has no more items";
}

TEST(AppendJsonEscaped, BytesThatAreNotUtf8AreReplaced) {
  std::string out;
  AppendJsonEscaped("a\xff\xc3(\xe4\xb8\xad\xf0\x9f\x98 end\xc3", out);
  EXPECT_EQ(out, "a\uFFFD\uFFFD(\u4e2d\uFFFD\uFFFD\uFFFD end\uFFFD");
  EXPECT_TRUE(json::accept("\"" + out + "\""));
}

TEST(AppendJsonEscaped, EveryByte) {
  for (int c = 0; c < 128; ++c) {
    std::string out = "\"";
    AppendJsonEscaped(std::string(1, static_cast<char>(c)), out);
    EXPECT_EQ(json::parse(out + "\"").get<std::string>(), std::string(1, static_cast<char>(c)));
  }
}

TEST(EventRoundTrip, WhatIsEscapedIsDecodedToTheSame) {
  std::mt19937_64 random(TestSeed());
  TestDecoder decode;
  const std::vector<std::string> pieces{"a", "\"", "\\", "\x01", "\n", "\u00e9", "\u4e2d", "\U0001F600", "/", "7"};
  for (int round = 0; round < 2000; ++round) {
    std::string id = "x";
    for (size_t i = random() % 20; i > 0; --i) id += pieces[random() % pieces.size()];
    std::string text = R"({"user_id":")";
    AppendJsonEscaped(id, text);
    text += R"(","item_id":")";
    AppendJsonEscaped(id + "i", text);
    text += R"(","timestamp":1506826800026})";
    const Event event = decode.Good(text);
    ASSERT_EQ(event.user_id, id);
    ASSERT_EQ(event.item_id, id + "i");
  }
}

RawRecord BadRecord() {
  RawRecord record;
  record.topic = "events.jsonl";
  record.partition = kPartitionOfUser;
  record.offset = Offset{(int64_t{1} << 40) + 5};
  record.shown_offset = Offset{5};
  record.key = "k";
  record.value = "{\"broken\"";
  return record;
}

TEST(DeadLetter, SaysWhatWasWrongAndWhere) {
  const RawRecord record = BadRecord();
  const OutputRecord letter = MakeDeadLetter(record, {"invalid_json", "found \"x\""});
  EXPECT_EQ(letter.stream, Stream::kDeadLetters);
  EXPECT_EQ(letter.key.data(), record.key.data());
  EXPECT_EQ(letter.value.data(), record.value.data());
  const std::vector<std::pair<std::string, std::string>> headers{{"freshet.error", "invalid_json"},
                                                                 {"freshet.message", "found \"x\""},
                                                                 {"freshet.topic", "events.jsonl"},
                                                                 {"freshet.partition", "0"},
                                                                 {"freshet.offset", "5"}};
  EXPECT_EQ(letter.headers, headers);
  std::string out;
  EncodeDeadLetter(letter, out);
  EXPECT_EQ(out, R"({"error":"invalid_json","message":"found \"x\"","topic":"events.jsonl","partition":0,"offset":5,)"
                 R"("key":"k","value":"{\"broken\""})");
}

TEST(DeadLetter, BytesThatAreNotTextAndACutRecord) {
  RawRecord record = BadRecord();
  record.value = "\xff\xfe";
  record.oversize_bytes = 12345;
  std::string out;
  EncodeDeadLetter(MakeDeadLetter(record, {"record_too_large", "m"}), out);
  const json read = json::parse(out);
  EXPECT_EQ(read.at("value_base64"), "//4=");
  EXPECT_EQ(read.at("truncated_bytes"), 12345);
  EXPECT_FALSE(read.contains("value"));
  EXPECT_EQ(read.at("key"), "k");
}

}  // namespace
}  // namespace freshet
