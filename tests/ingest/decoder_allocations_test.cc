// In steady state no decoder allocates for an event, whatever form its fields have.
#include <event.pb.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ingest/decoder.h"
#include "tests/support/allocations.h"

namespace freshet {
namespace {

constexpr int kRecords = 500;

// operator new calls of several passes over `values`, after a few that warm the memory up. Every record is an event.
int64_t AllocationsOf(const DecoderOptions& options, const std::vector<std::string>& values,
                      std::string_view header = {}) {
  const auto decoder = MakeDecoder(options).value();
  Arena arena;
  size_t events = 0;
  const auto pass = [&] {
    arena.Reset();
    for (const std::string& value : values) {
      RawRecord record;
      record.header = header;
      record.value = arena.Copy(value);
      const auto decoded = decoder->Decode(record, arena);
      events += std::holds_alternative<Event>(decoded) ? 1 : 0;
    }
  };
  for (int i = 0; i < 3; ++i) pass();
  const int64_t before = AllocationsOfThisThread();
  for (int i = 0; i < 10; ++i) pass();
  const int64_t counted = AllocationsOfThisThread() - before;
  EXPECT_EQ(events, 13 * values.size());
  return counted;
}

// Ids beyond what a std::string holds without an allocation.
std::string Id(const char* kind, int n) { return std::string(kind) + "-with-a-long-name-" + std::to_string(n * 7919); }
std::string Time(int n) { return std::to_string(1'506'826'800'000 + n); }

TEST(DecoderAllocations, AreCounted) {
  const int64_t before = AllocationsOfThisThread();
  const auto text = std::make_unique<std::string>(100, 'x');
  EXPECT_EQ(AllocationsOfThisThread() - before, 2) << text->size();
}

TEST(DecoderAllocations, NoneForJson) {
  std::vector<std::string> values;
  for (int n = 0; n < kRecords; ++n) {
    const std::string rest = R"(,"event_id":")" + Id("event", n) + R"(","properties":{"pages":[1,2.5,"x"],"text":")" +
                             std::string(static_cast<size_t>(n), 'p') + R"("},"timestamp":)" + Time(n) + "}";
    const std::string ids[] = {
        R"({"user_id":")" + Id("user", n) + R"(","item_id":")" + Id("item", n) + R"(","event_type":"view")",
        R"({"user_id":)" + std::to_string(n * 1'000'003) + R"(,"item_id":12345678901234567890123)",
        R"({"user_id":"\u00e9scap\"ed )" + Id("user", n) + R"(","item_id":-1.50e3,"event_type":null)"};
    values.push_back(ids[n % 3] + rest);
  }
  EXPECT_EQ(AllocationsOf({}, values), 0);
}

TEST(DecoderAllocations, NoneForMappedJson) {
  DecoderOptions options;
  options.mapping.user_id.path = "/visitor/id";
  options.mapping.item_id.path = "/products/1/sku";
  options.mapping.event_type = {"/action", {}, {{"a page was looked at by the visitor", "view"}}};
  options.mapping.event_id.constant = "";
  options.mapping.timestamp.path = "/at";
  options.mapping.timestamp_unit = TimeUnit::kIso8601;
  std::vector<std::string> values;
  for (int n = 0; n < kRecords; ++n) {
    values.push_back(R"({"at":"2017-10-01T03:00:00.026Z","visitor":{"name":"x","id":")" + Id("user", n) +
                     R"("},"products":[{},{"sku":")" + Id("item", n) +
                     R"("}],"action":"a page was looked at by the visitor"})");
  }
  EXPECT_EQ(AllocationsOf(options, values), 0);
}

TEST(DecoderAllocations, NoneForProtobuf) {
  DecoderOptions options;
  options.format = RecordFormat::kProtobuf;
  std::vector<std::string> values;
  for (int n = 0; n < kRecords; ++n) {
    v1::Event event;
    event.set_user_id(Id("user", n));
    event.set_item_id(Id("item", n));
    event.set_timestamp(1'506'826'800'000 + n);
    const std::string envelope("\0\0\0\0\7\0", 6);
    values.push_back((n % 2 == 0 ? envelope : "") + event.SerializeAsString());
  }
  EXPECT_EQ(AllocationsOf(options, values), 0);
}

TEST(DecoderAllocations, NoneForCsvAndTsv) {
  for (const char separator : {',', '\t'}) {
    DecoderOptions options;
    options.format = separator == ',' ? RecordFormat::kCsv : RecordFormat::kTsv;
    const auto row = [&](const std::string& user, const std::string& item, const std::string& time) {
      return user + separator + item + separator + "view" + separator + time;
    };
    std::vector<std::string> values;
    for (int n = 0; n < kRecords; ++n) {
      const bool quoted = separator == ',' && n % 2 == 0;
      values.push_back(
          row(Id("user", n), quoted ? "\"a \"\"quoted\"\", " + Id("item", n) + '"' : Id("item", n), Time(n)));
    }
    const std::string header =
        std::string("user_id") + separator + "item_id" + separator + "event_type" + separator + "timestamp";
    EXPECT_EQ(AllocationsOf(options, values, header), 0) << options.mapping.user_id.path;
  }
}

}  // namespace
}  // namespace freshet
