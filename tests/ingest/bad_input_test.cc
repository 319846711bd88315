// Bad records: each becomes a dead letter with its own code, and the decoder goes on.
#include <gtest/gtest.h>

#include "ingest/encoder.h"
#include "tests/ingest/files_for_tests.h"

namespace freshet {
namespace {

std::string Json(const std::string& user, const std::string& item = "\"i\"", const std::string& time = "1506826800026",
                 const std::string& rest = "") {
  return R"({"user_id":)" + user + R"(,"item_id":)" + item + R"(,"timestamp":)" + time + rest + "}";
}

struct BadCase {
  std::string name;
  std::string code;
  std::string record;
};
void PrintTo(const BadCase& bad, std::ostream* out) { *out << bad.name; }

std::string CaseName(const testing::TestParamInfo<BadCase>& bad) { return bad.param.name; }

class BadInput : public testing::TestWithParam<BadCase> {};

TEST_P(BadInput, HasItsCodeAndTheNextRecordIsFine) {
  TestDecoder decode;
  EXPECT_EQ(decode.Code(GetParam().record), GetParam().code) << decode.message();
  EXPECT_FALSE(decode.message().empty());
  EXPECT_LT(decode.message().size(), 500u);
  EXPECT_EQ(decode.Good(Json("\"u\"")).user_id, "u");
}

const std::string kLong(1025, 'x');
using namespace std::string_literals;

INSTANTIATE_TEST_SUITE_P(
    Json, BadInput,
    testing::Values(
        BadCase{"empty", "invalid_json", ""}, BadCase{"spaces", "invalid_json", "   "},
        BadCase{"text", "invalid_json", "hello"}, BadCase{"cut", "invalid_json", R"({"user_id":"u1","it)"},
        BadCase{"two_documents", "invalid_json", Json("\"u\"") + Json("\"u\"")},
        BadCase{"trailing_comma", "invalid_json", Json("\"u\"", "\"i\"", "1506826800026", ",")},
        BadCase{"too_deep", "invalid_json",
                Json("\"u\"", "\"i\"", "1506826800026", ",\"x\":" + std::string(500, '[') + std::string(500, ']'))},
        BadCase{"endless_depth", "invalid_json", std::string(100000, '[')},
        BadCase{"long_integer_then_garbage", "invalid_json", Json("12345678901234567890 1")},
        BadCase{"lone_high_surrogate", "invalid_json", Json(R"("a\ud800")")},
        BadCase{"raw_control_character", "invalid_json", Json("\"a\x01\"")},
        BadCase{"raw_nul", "invalid_json", Json("\"a\0b\""s)}, BadCase{"array", "not_an_object", R"(["u1","i1"])"},
        BadCase{"number", "not_an_object", "17"}, BadCase{"string", "not_an_object", "\"u1\""},
        BadCase{"null", "not_an_object", "null"}, BadCase{"empty_object", "missing_user_id", "{}"},
        BadCase{"other_shape", "missing_user_id",
                R"({"event":{"user_id":"u","item_id":"i","timestamp":1506826800026}})"},
        BadCase{"null_user", "missing_user_id", Json("null")},
        BadCase{"null_item", "missing_item_id", Json("\"u\"", "null")},
        BadCase{"missing_item", "missing_item_id", R"({"user_id":"u","timestamp":1506826800026})"},
        BadCase{"empty_user", "empty_user_id", Json("\"\"")},
        BadCase{"empty_item", "empty_item_id", Json("\"u\"", "\"\"")},
        BadCase{"object_user", "invalid_user_id", Json(R"({"id":1})")},
        BadCase{"bool_user", "invalid_user_id", Json("true")},
        BadCase{"array_item", "invalid_item_id", Json("\"u\"", "[1]")},
        BadCase{"array_type", "invalid_event_type", Json("\"u\"", "\"i\"", "1506826800026", R"(,"event_type":[])")},
        BadCase{"bool_event_id", "invalid_event_id", Json("\"u\"", "\"i\"", "1506826800026", R"(,"event_id":false)")},
        BadCase{"long_user", "user_id_too_long", Json("\"" + kLong + "\"")},
        BadCase{"long_digits_user", "user_id_too_long", Json(std::string(1025, '7'))},
        BadCase{"long_item", "item_id_too_long", Json("\"u\"", "\"" + kLong + "\"")},
        BadCase{"long_type", "event_type_too_long",
                Json("\"u\"", "\"i\"", "1506826800026", ",\"event_type\":\"" + kLong + "\"")},
        BadCase{"long_event_id", "event_id_too_long",
                Json("\"u\"", "\"i\"", "1506826800026", ",\"event_id\":\"" + kLong + "\"")},
        BadCase{"escaped_nul_user", "invalid_user_id", Json(R"("a\u0000b")")},
        BadCase{"escaped_nul_item", "invalid_item_id", Json("\"u\"", R"("\u0000")")},
        BadCase{"invalid_utf8", "invalid_utf8", Json("\"a\xff\"")},
        BadCase{"invalid_utf8_elsewhere", "invalid_utf8",
                Json("\"u\"", "\"i\"", "1506826800026", ",\"x\":\"\xc3\x28\"")},
        BadCase{"overlong_utf8", "invalid_utf8", Json("\"\xc0\xaf\"")},
        BadCase{"large", "record_too_large",
                Json("\"u\"", "\"i\"", "1506826800026", ",\"x\":\"" + std::string(1 << 20, 'x') + "\"")}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Timestamps, BadInput,
    testing::Values(BadCase{"missing_time", "missing_timestamp", R"({"user_id":"u","item_id":"i"})"},
                    BadCase{"null_time", "missing_timestamp", Json("\"u\"", "\"i\"", "null")},
                    BadCase{"empty_time", "missing_timestamp", Json("\"u\"", "\"i\"", "\"\"")},
                    BadCase{"text_time", "invalid_timestamp", Json("\"u\"", "\"i\"", "\"yesterday\"")},
                    BadCase{"date_time", "invalid_timestamp", Json("\"u\"", "\"i\"", "\"2017-10-01\"")},
                    BadCase{"bool_time", "invalid_timestamp", Json("\"u\"", "\"i\"", "true")},
                    BadCase{"array_time", "invalid_timestamp", Json("\"u\"", "\"i\"", "[1]")},
                    BadCase{"negative_time", "timestamp_out_of_range", Json("\"u\"", "\"i\"", "-1")},
                    BadCase{"far_future", "timestamp_out_of_range", Json("\"u\"", "\"i\"", "4102444800000")},
                    BadCase{"microseconds", "timestamp_out_of_range", Json("\"u\"", "\"i\"", "1506826800026000")},
                    BadCase{"huge_time", "timestamp_out_of_range", Json("\"u\"", "\"i\"", "99999999999999999999999")},
                    BadCase{"huge_double_time", "timestamp_out_of_range", Json("\"u\"", "\"i\"", "1e300")},
                    BadCase{"seconds", "timestamp_looks_like_seconds", Json("\"u\"", "\"i\"", "1506826800")},
                    BadCase{"seconds_as_text", "timestamp_looks_like_seconds",
                            Json("\"u\"", "\"i\"", "\"1506826800\"")}),
    CaseName);

TEST(BadInputMessages, NameFieldFoundAndExpected) {
  TestDecoder decode;
  decode.Code(Json("\"u\"", "\"i\"", "1506826800"));
  EXPECT_EQ(decode.message(),
            "timestamp (/timestamp): found \"1506826800\", expected milliseconds since 1970; if these are seconds, set "
            "source.mapping.timestamp.unit to s");
  decode.Code(Json("\"u\"", "\"i\"", "1506826800026000"));
  EXPECT_NE(decode.message().find("set source.mapping.timestamp.unit to us"), std::string::npos) << decode.message();
  decode.Code("{\"user_id\":\"u1\"");
  EXPECT_TRUE(
      decode.message().starts_with("found 15 bytes, \"{\\\"user_id\\\":\\\"u1\\\"\", expected one whole JSON object"))
      << decode.message();
  decode.Code(Json("[1]"));
  EXPECT_EQ(decode.message(), "user_id (/user_id): found an array, expected a string or a number");
}

TEST(BadInputMessages, QuoteAtMost80BytesAndStayUtf8) {
  TestDecoder decode;
  std::string text = "x";
  for (int i = 0; i < 60; ++i) text += "é";
  ASSERT_EQ(decode.Code(Json("\"u\"", "\"i\"", "\"" + text + "\"")), "invalid_timestamp");
  std::string expected = "x";
  for (int i = 0; i < 39; ++i) expected += "é";
  EXPECT_NE(decode.message().find("\"" + expected + "\"…"), std::string::npos) << decode.message();
}

TEST(BadInput, IdsOfTheGreatestLengthAreFine) {
  TestDecoder decode;
  EXPECT_EQ(decode.Good(Json("\"" + std::string(1024, 'x') + "\"")).user_id.size(), 1024u);
}

TEST(BadInput, ARecordOfWhichOnlyTheBeginningIsThere) {
  TestDecoder decode;
  RawRecord record;
  record.oversize_bytes = 20 << 20;
  const auto result = decode.Decode(record, Json("\"u\""));
  EXPECT_EQ(std::get<DecodeFailure>(result).code, "record_too_large");
  EXPECT_NE(std::get<DecodeFailure>(result).message.find("20971520 bytes"), std::string::npos);
}

TEST(BadInput, AnInputThatBreaksOff) {
  for (const RecordFormat format : {RecordFormat::kJson, RecordFormat::kCsv, RecordFormat::kTsv}) {
    DecoderOptions options;
    options.format = format;
    TestDecoder decode(options);
    RawRecord record;
    record.damage = "a.gz: byte 17: the compressed data breaks off";
    const auto result = decode.Decode(record, Json("\"u\""));
    EXPECT_EQ(std::get<DecodeFailure>(result).code, "truncated_input");
    EXPECT_EQ(std::get<DecodeFailure>(result).message, record.damage);
  }
}

TEST(BadInput, DelimitedRecords) {
  DecoderOptions options;
  options.format = RecordFormat::kCsv;
  TestDecoder decode(options);
  const char* const header = "user_id,item_id,timestamp,event_type";
  EXPECT_EQ(decode.Code(",i,1506826800026,view", header), "empty_user_id");
  EXPECT_EQ(decode.Code("u,,1506826800026,view", header), "empty_item_id");
  EXPECT_EQ(decode.Code("u,i,,view", header), "missing_timestamp");
  EXPECT_EQ(decode.Code("u,i,soon,view", header), "invalid_timestamp");
  EXPECT_EQ(decode.Code("u\xff,i,1506826800026,view", header), "invalid_utf8");
  EXPECT_EQ(decode.Code("u,i,1506826800026,view\xff", header), "invalid_utf8");
  EXPECT_EQ(decode.Code("u\0x,i,1506826800026,view"s, header), "invalid_user_id");
  EXPECT_EQ(decode.Code(kLong + ",i,1506826800026,view", header), "user_id_too_long");
  EXPECT_EQ(decode.Code("u,i,1506826800026,view"), "missing_user_id") << "names without a header line";
  EXPECT_EQ(decode.Good("u,i,1506826800026,view", header).user_id, "u");
}

}  // namespace
}  // namespace freshet
