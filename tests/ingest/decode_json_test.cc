#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/ingest/files_for_tests.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

std::string With(const std::string& user, const std::string& item = "\"i9\"",
                 const std::string& time = "1506826800026") {
  return R"({"user_id":)" + user + R"(,"item_id":)" + item + R"(,"event_type":"buy","timestamp":)" + time + "}";
}

TEST(DecodeJson, TheDefaultMapping) {
  TestDecoder decode;
  const Event event = decode.Good(
      R"({"user_id":"u1","item_id":"i9","event_type":"buy","timestamp":1506826800026,"event_id":"e7","properties":{"a":[1,2]}})");
  EXPECT_EQ(event.user_id, "u1");
  EXPECT_EQ(event.item_id, "i9");
  EXPECT_EQ(event.event_type, "buy");
  EXPECT_EQ(event.event_id, "e7");
  EXPECT_EQ(event.timestamp_ms, 1506826800026);
}

TEST(DecodeJson, WhatMayBeLeftOut) {
  TestDecoder decode;
  for (const char* const rest : {"", R"(,"event_type":null,"event_id":null)", R"(,"event_type":"","event_id":"")"}) {
    const Event event =
        decode.Good(R"({"timestamp":1506826800026,"item_id":"i","user_id":"u")" + std::string(rest) + "}");
    EXPECT_EQ(event.event_type, "view");
    EXPECT_EQ(event.event_id, "");
  }
}

TEST(DecodeJson, NumbersAsIdsKeepTheirDigits) {
  TestDecoder decode;
  for (const std::string digits :
       {"0", "-0", "7", "-12", "1.0", "1e3", "-1.50E+07", "0.10", "9223372036854775807", "-9223372036854775808",
        "18446744073709551615", "18446744073709551616", "123456789012345678901234567890", "-99999999999999999999"}) {
    EXPECT_EQ(decode.Good(With(digits)).user_id, digits);
    EXPECT_EQ(decode.Good(With("\"u\"", digits)).item_id, digits);
    EXPECT_EQ(decode.Good(With(" " + digits + " ", digits)).user_id, digits);
  }
}

TEST(DecodeJson, ALongIntegerElsewhereIsNoHarm) {
  TestDecoder decode;
  const Event event = decode.Good(
      R"({"x":[98765432109876543210,"98765432109876543210"],"user_id":"11111111111111111111","item_id":1.5,"timestamp":1506826800026})");
  EXPECT_EQ(event.user_id, "11111111111111111111");
  EXPECT_EQ(event.item_id, "1.5");
}

TEST(DecodeJson, EscapesAreUndone) {
  TestDecoder decode;
  EXPECT_EQ(decode.Good(With(R"("a\"\\\/\n\u00e9\ud83d\ude00")")).user_id, "a\"\\/\n\u00e9\U0001F600");
}

TEST(DecodeJson, OfARepeatedMemberTheFirstCounts) {
  TestDecoder decode;
  EXPECT_EQ(decode.Good(R"({"user_id":1.0,"user_id":2.0,"item_id":"i","timestamp":1506826800026})").user_id, "1.0");
}

TEST(DecodeJson, PointersConstantsAndValueMaps) {
  DecoderOptions options;
  options.mapping.user_id.path = "/who/ids/1";
  options.mapping.item_id.path = "/what~1which/a~0b";
  options.mapping.event_type = {"/type", {}, {{"pv", "view"}, {"buy", "purchase"}}};
  options.mapping.event_id = {"", "all", {}};
  options.mapping.timestamp.path = "/at";
  options.mapping.timestamp_unit = TimeUnit::kSeconds;
  TestDecoder decode(options);
  const std::string record =
      R"({"skip":{"who":[{}]},"who":{"n":[1,[2]],"ids":[{"a":"]"},7.50,"x"]},"what/which":{"a~b":"i9"},"type":"TYPE","at":"1506826800.026"})";
  const auto typed = [&](const std::string& type) {
    std::string text = record;
    return text.replace(text.find("TYPE"), 4, type);
  };
  Event event = decode.Good(typed("buy"));
  EXPECT_EQ(event.user_id, "7.50");
  EXPECT_EQ(event.item_id, "i9");
  EXPECT_EQ(event.event_type, "purchase");
  EXPECT_EQ(event.event_id, "all");
  EXPECT_EQ(event.timestamp_ms, 1506826800026);
  EXPECT_EQ(decode.Good(typed("cart")).event_type, "cart");
  EXPECT_EQ(decode.Code(R"({"who":{"ids":["x"]}})"), "missing_user_id");
  EXPECT_EQ(decode.Code(R"({"who":"x"})"), "missing_user_id");
}

TEST(DecodeJson, APathThatIsNoPointerIsRefused) {
  for (const std::string path : {"user_id", "", "/a~", "/a~2b", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"}) {
    DecoderOptions options;
    options.mapping.user_id.path = path;
    const auto decoder = MakeDecoder(options);
    ASSERT_FALSE(decoder.ok()) << path;
    EXPECT_EQ(decoder.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(decoder.error().message().find("source.mapping.user_id"), std::string::npos) << decoder.error().message();
  }
}

// Random documents around the five fields, decoded here and by nlohmann-json.
class RandomDocument {
 public:
  explicit RandomDocument(uint64_t seed) : random_(seed) {}

  nlohmann::json Make() {
    nlohmann::json document = nlohmann::json::object();
    for (int i = Below(4); i > 0; --i) document["x" + std::to_string(Below(50))] = Value(3);
    document["user_id"] = Scalar();
    document["item_id"] = Scalar();
    document["timestamp"] = int64_t{1'500'000'000'000} + Below(1'000'000'000);
    if (Below(2) == 0) document["event_type"] = Text();
    if (Below(2) == 0) document["event_id"] = Scalar();
    return document;
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  std::string Text() {
    constexpr const char* kPieces[] = {"a",    "Z", "0",  " ", "\"", "\\", "/", "\n",
                                       "\x7f", "é", "中", "😀", "{",  "]",  ","};
    std::string text = "t";
    for (int i = Below(12); i > 0; --i) text += kPieces[Below(std::size(kPieces))];
    return text;
  }
  nlohmann::json Scalar() {
    if (Below(2) == 0) return Text();
    return Below(2) == 0 ? nlohmann::json(static_cast<int64_t>(random_())) : nlohmann::json(random_());
  }
  nlohmann::json Value(int depth) {
    switch (Below(depth > 0 ? 6 : 4)) {
      case 0:
        return nullptr;
      case 1:
        return Below(2) == 0;
      case 2:
        return static_cast<double>(Below(1000)) / 8;
      case 3:
        return Scalar();
      case 4:
        return nlohmann::json::array({Value(depth - 1), Value(depth - 1)});
      default:
        return nlohmann::json::object({{Text(), Value(depth - 1)}, {"user_id", Value(depth - 1)}});
    }
  }

  std::mt19937_64 random_;
};

std::string TextOf(const nlohmann::json& document, const std::string& field) {
  if (!document.contains(field)) return field == "event_type" ? "view" : "";
  const auto& value = document[field];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

TEST(DecodeJson, AgreesWithAnotherParserOnRandomDocuments) {
  RandomDocument random(TestSeed());
  TestDecoder decode;
  for (int i = 0; i < 5000; ++i) {
    const auto document = random.Make();
    const std::string text = document.dump(i % 3 == 0 ? 2 : -1, ' ', i % 2 == 0);
    const Event event = decode.Good(text);
    ASSERT_EQ(event.user_id, TextOf(document, "user_id")) << text;
    ASSERT_EQ(event.item_id, TextOf(document, "item_id")) << text;
    ASSERT_EQ(event.event_type, TextOf(document, "event_type")) << text;
    ASSERT_EQ(event.event_id, TextOf(document, "event_id")) << text;
    ASSERT_EQ(event.timestamp_ms, document["timestamp"].get<int64_t>()) << text;
  }
}

}  // namespace
}  // namespace freshet
