#include <gtest/gtest.h>
#include <recommendation.pb.h>

#include <limits>
#include <random>

#include "ingest/encoder.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

const std::vector<std::string> kIds{"[unknown]", "i1", "caf\u00e9", std::string(300, 'x'), ""};

struct Drawn {
  std::string user, topic;
  std::vector<ScoredItem> items;
  std::vector<float> vector;
  Recommendation recommendation;
};

// Anything that a recommendation can be, zeros and ends of ranges among it.
void Draw(std::mt19937_64& random, Drawn& drawn) {
  const auto number = [&random] {
    constexpr int64_t kSpecial[] = {
        0, 1, -1, 127, 128, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()};
    return random() % 2 == 0 ? kSpecial[random() % std::size(kSpecial)]
                             : static_cast<int64_t>(random() >> random() % 64);
  };
  const auto score = [&random] {
    return random() % 8 == 0 ? 0.0F : static_cast<float>(static_cast<double>(random()) / 1e18 - 9);
  };
  drawn.user.assign(random() % 200, 'u');
  drawn.topic.assign(random() % 20, 't');
  drawn.items.clear();
  drawn.vector.clear();
  for (size_t i = random() % 5; i > 0; --i)
    drawn.items.push_back({ItemRow{static_cast<uint32_t>(random() % 5)}, score()});
  for (size_t i = random() % 40; i > 0; --i) drawn.vector.push_back(score());
  drawn.recommendation = {.user_id = drawn.user,
                          .generated_at_ms = number(),
                          .sequence_number = number(),
                          .topic = drawn.topic,
                          .partition = PartitionId{static_cast<int32_t>(number())},
                          .offset = Offset{number()},
                          .event_time_ms = number(),
                          .items = drawn.items,
                          .user_vector = drawn.vector};
}

// The plain way, through the generated code.
std::string Plainly(const Recommendation& recommendation) {
  v1::Recommendation message;
  message.set_user_id(std::string(recommendation.user_id));
  message.set_generated_at(recommendation.generated_at_ms);
  message.set_sequence_number(recommendation.sequence_number);
  message.mutable_model()->set_name("demo");
  message.mutable_model()->set_version("9f2c");
  message.mutable_source()->set_topic(std::string(recommendation.topic));
  message.mutable_source()->set_partition(Raw(recommendation.partition));
  message.mutable_source()->set_offset(Raw(recommendation.offset));
  message.mutable_source()->set_event_time(recommendation.event_time_ms);
  for (const ScoredItem& item : recommendation.items) {
    v1::Recommendation::Item& added = *message.add_items();
    added.set_item_id(kIds[Raw(item.row)]);
    added.set_score(item.score);
  }
  for (const float value : recommendation.user_vector) message.add_user_vector(value);
  return message.SerializeAsString();
}

TEST(ProtobufRecommendationEncoder, WritesTheBytesOfTheGeneratedCode) {
  std::mt19937_64 random(TestSeed());
  const ProtobufRecommendationEncoder bare("demo", "9f2c", kIds, 0);
  const ProtobufRecommendationEncoder enveloped("demo", "9f2c", kIds, 0x01020304);
  const JsonRecommendationEncoder json("demo", "9f2c", kIds);
  Drawn drawn;
  for (int i = 0; i < 2000; ++i) {
    Draw(random, drawn);
    const Recommendation& recommendation = drawn.recommendation;
    std::string out = "before";
    bare.Encode(recommendation, out);
    const std::string expected = Plainly(recommendation);
    ASSERT_EQ(out, "before" + expected);
    out.clear();
    enveloped.Encode(recommendation, out);
    ASSERT_EQ(out, std::string("\0\1\2\3\4\0", 6) + expected);
    ASSERT_LE(out.size(), enveloped.MaxBytes(drawn.user.size(), drawn.topic, drawn.items.size(), drawn.vector.size()) +
                              300 * drawn.items.size())
        << "items may repeat here";

    std::string text;
    std::string converted = "before";
    json.Encode(recommendation, text);
    ASSERT_TRUE(RecommendationToJson(out, converted));
    ASSERT_EQ(converted, "before" + text);
    converted.clear();
    ASSERT_TRUE(RecommendationToJson(expected, converted));
    ASSERT_EQ(converted, text);
  }
}

TEST(ProtobufRecommendationEncoder, NothingIsLargerThanItSays) {
  const ProtobufRecommendationEncoder encoder("demo", "9f2c", kIds, 7);
  const std::vector<ScoredItem> top{{ItemRow{3}, 1.0F}, {ItemRow{2}, 1.0F}};
  const std::vector<float> vector(64, 1.0F);
  const std::string user(1024, 'u');
  std::string out;
  encoder.Encode({.user_id = user,
                  .generated_at_ms = -1,
                  .sequence_number = -1,
                  .topic = "t",
                  .partition = PartitionId{-1},
                  .offset = Offset{-1},
                  .event_time_ms = -1,
                  .items = top,
                  .user_vector = vector},
                 out);
  const size_t most = encoder.MaxBytes(user.size(), "t", 2, vector.size());
  EXPECT_LE(out.size(), most);
  EXPECT_GT(out.size() + 256, most) << "nor does it say much more";
  EXPECT_EQ(encoder.MaxBytes(0, "t", kIds.size(), 0), encoder.MaxBytes(0, "t", 10'000, 0));
}

TEST(RecommendationToJson, RefusesWhatIsNone) {
  std::string out = "before";
  for (const char* bad : {"{\"user_id\":1}", "\x0a\x7f", "\xff"}) EXPECT_FALSE(RecommendationToJson(bad, out)) << bad;
  EXPECT_EQ(out, "before");
}

}  // namespace
}  // namespace freshet
