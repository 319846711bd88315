#include <gtest/gtest.h>

#include "tests/ingest/files_for_tests.h"

namespace freshet {
namespace {

DecoderOptions Options(RecordFormat format) {
  DecoderOptions options;
  options.format = format;
  return options;
}

constexpr const char* kHeader = "timestamp,user_id,title,item_id,event_type";

TEST(DecodeCsv, ColumnsByName) {
  TestDecoder decode(Options(RecordFormat::kCsv));
  const Event event = decode.Good("1506826800026,u1,A film,i9,buy", kHeader);
  EXPECT_EQ(event.user_id, "u1");
  EXPECT_EQ(event.item_id, "i9");
  EXPECT_EQ(event.event_type, "buy");
  EXPECT_EQ(event.event_id, "");
  EXPECT_EQ(event.timestamp_ms, 1506826800026);
}

TEST(DecodeCsv, AnotherHeaderIsAnotherOrder) {
  TestDecoder decode(Options(RecordFormat::kCsv));
  EXPECT_EQ(decode.Good("1506826800026,u1,,i9,buy", kHeader).user_id, "u1");
  const Event event = decode.Good("u2,i3,1506826800026", "user_id,item_id,timestamp");
  EXPECT_EQ(event.user_id, "u2");
  EXPECT_EQ(event.event_type, "view");
  EXPECT_EQ(decode.Good("1506826800026,u1,,i9,", kHeader).event_type, "view");
}

TEST(DecodeCsv, Quotes) {
  TestDecoder decode(Options(RecordFormat::kCsv));
  const Event event = decode.Good(R"(1506826800026,"u,1","a ""b"", c","i""9""",a"b)", kHeader);
  EXPECT_EQ(event.user_id, "u,1");
  EXPECT_EQ(event.item_id, "i\"9\"");
  EXPECT_EQ(event.event_type, "a\"b") << "a quote inside of an unquoted field stands for itself";
  EXPECT_EQ(decode.Good(R"("1506826800026","u1","","i9","")", kHeader).event_type, "view");
  EXPECT_EQ(decode.Good(R"(1506826800026,u1,"""",i9,"""")", kHeader).event_type, "\"");
  EXPECT_EQ(decode.Good("1506826800026,u1,x,i9,buy", R"("timestamp","user_id",title,"item_id",event_type)").user_id,
            "u1");
}

TEST(DecodeCsv, BadQuotesAndFieldCounts) {
  TestDecoder decode(Options(RecordFormat::kCsv));
  EXPECT_EQ(decode.Code(R"(1506826800026,"u1,x,i9,buy)", kHeader), "invalid_csv");
  EXPECT_EQ(decode.Code(R"(1506826800026,"u1"x,x,i9,buy)", kHeader), "invalid_csv");
  EXPECT_EQ(decode.Code("1506826800026,u1,x,i9", kHeader), "too_few_fields");
  EXPECT_EQ(decode.Code("1506826800026,u1,x,y,i9,buy", kHeader), "too_many_fields");
  EXPECT_EQ(decode.message(), "found 6 fields, expected 5");
}

TEST(DecodeCsv, ColumnsByNumber) {
  DecoderOptions options = Options(RecordFormat::kCsv);
  EXPECT_TRUE(HasHeaderLine(options).value());
  options.mapping.user_id.path = "0";
  options.mapping.item_id.path = "/1";
  options.mapping.event_type = {"3", {}, {{"pv", "view"}}};
  options.mapping.timestamp.path = "4";
  options.mapping.timestamp_unit = TimeUnit::kSeconds;
  EXPECT_FALSE(HasHeaderLine(options).value());
  TestDecoder decode(options);
  const Event event = decode.Good("1,2268318,2520377,pv,1511544070");
  EXPECT_EQ(event.user_id, "1");
  EXPECT_EQ(event.item_id, "2268318");
  EXPECT_EQ(event.event_type, "view");
  EXPECT_EQ(event.timestamp_ms, 1511544070000);
  EXPECT_EQ(decode.Code("1,2,3,pv"), "too_few_fields");
  EXPECT_EQ(decode.Good("1,2,3,pv,1511544070,more").item_id, "2") << "without a header nobody knows how many there are";
}

TEST(DecodeTsv, QuotesAreBytes) {
  TestDecoder decode(Options(RecordFormat::kTsv));
  const Event event = decode.Good("\"u\"\t1506826800026\ti,9", "user_id\ttimestamp\titem_id");
  EXPECT_EQ(event.user_id, "\"u\"");
  EXPECT_EQ(event.item_id, "i,9");
}

TEST(DecodeCsv, AMissingColumnIsNamedWithThoseThereAre) {
  DecoderOptions options = Options(RecordFormat::kCsv);
  options.mapping.item_id.path = "click_article_id";
  const TestDecoder decode(options);
  const Status status = decode.decoder().CheckHeader("user_id,article,timestamp");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(status.error().message(),
            "source.mapping.item_id: no column \"click_article_id\"; the columns are user_id, article, timestamp");
  EXPECT_TRUE(decode.decoder().CheckHeader("user_id,click_article_id,timestamp").ok());
}

TEST(DecodeCsv, AColumnThatIsMappedComesOnce) {
  DecoderOptions options = Options(RecordFormat::kCsv);
  const auto check = [&](std::string_view header) { return TestDecoder(options).decoder().CheckHeader(header); };
  const Status status = check("user_id,item_id,timestamp,item_id");
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message(),
            "source.mapping.item_id: more than one column \"item_id\"; the columns are user_id, item_id, timestamp, "
            "item_id");
  EXPECT_FALSE(check("user_id,item_id,timestamp,event_type,event_type").ok());
  EXPECT_TRUE(check("user_id,item_id,timestamp,note,note").ok());
  options.mapping.item_id.path = "3";
  EXPECT_TRUE(check("user_id,item_id,timestamp,item_id").ok());
}

TEST(DecodeCsv, TypeAndEventIdColumnsAreNeededOnlyWhereMappedElsewhere) {
  DecoderOptions options = Options(RecordFormat::kCsv);
  EXPECT_TRUE(TestDecoder(options).decoder().CheckHeader("user_id,item_id,timestamp").ok());
  options.mapping.event_type.path = "behaviour";
  EXPECT_FALSE(TestDecoder(options).decoder().CheckHeader("user_id,item_id,timestamp").ok());
  options.mapping.event_type.constant = "click";
  EXPECT_TRUE(TestDecoder(options).decoder().CheckHeader("user_id,item_id,timestamp").ok());
  options.mapping.timestamp.path = "7";
  EXPECT_FALSE(TestDecoder(options).decoder().CheckHeader("user_id,item_id,timestamp").ok());
}

TEST(DecodeCsv, EmptyPathsAreRefused) {
  DecoderOptions options = Options(RecordFormat::kCsv);
  options.mapping.user_id.path = "/";
  EXPECT_FALSE(MakeDecoder(options).ok());
}

}  // namespace
}  // namespace freshet
