#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "pipeline/control_plane.h"
#include "pipeline/dashboard/embedded.h"
#include "tests/pipeline/http/client.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

RawRecord RecordAt(int64_t offset, std::string_view value) {
  return {.topic = "clicks",
          .key = "u1",
          .value = value,
          .shown_partition = PartitionId{2},
          .shown_offset = Offset{offset}};
}

ItemTitles TitlesOf(const std::string& lines) {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "items.jsonl") << lines;
  auto titles = ItemTitles::Load(directory.path() / "items.jsonl");
  EXPECT_TRUE(titles.ok()) << titles.error().message();
  return titles.ok() ? std::move(titles).value() : ItemTitles();
}

class DashboardTest : public testing::Test {
 protected:
  void SetUp() override {
    ControlPlaneOptions options;
    options.listen = "127.0.0.1:0";
    options.dead_letters = &samples_;
    options.items = &titles_;
    auto plane = ControlPlane::Start(options, readiness_, *metrics_, queries_);
    ASSERT_TRUE(plane.ok()) << plane.error().message();
    plane_ = std::move(plane).value();
  }
  void TearDown() override { queries_.Close(0); }

  HttpAnswer Ask(const std::string& method, const std::string& target, const std::string& headers = {}) {
    HttpClient client(plane_->port());
    EXPECT_TRUE(client.Send(method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n"));
    const auto answer = client.Receive(method == "HEAD");
    EXPECT_TRUE(answer) << target;
    return answer.value_or(HttpAnswer());
  }

  DeadLetterSamples samples_;
  const ItemTitles titles_ = TitlesOf(
      "{\"item_id\":\"i1\",\"title\":\"Quiet Window\",\"category\":\"mystery\",\"price\":9}\n\n"
      "{\"item_id\":\"a,b\",\"title\":\"Été\"}\n{\"item_id\":\"bare\"}\n");
  Readiness readiness_;
  LiveQueries queries_{1};
  std::unique_ptr<Metrics> metrics_ = Metrics::Make("0.1.0", {"demo", "9f2c"});
  std::unique_ptr<ControlPlane> plane_;
};

TEST_F(DashboardTest, ServesThePageAndItsFiles) {
  const std::pair<std::string, std::string> files[] = {{"/", "text/html"},
                                                       {"/dashboard/dashboard.css", "text/css"},
                                                       {"/dashboard/bootstrap-reboot.min.css", "text/css"},
                                                       {"/dashboard/chart.min.js", "text/javascript"},
                                                       {"/dashboard/dashboard.js", "text/javascript"}};
  for (const auto& [path, type] : files) {
    const HttpAnswer answer = Ask("GET", path);
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_EQ(answer.headers.at("content-type"), type + "; charset=utf-8") << path;
    EXPECT_EQ(answer.headers.at("content-length"), std::to_string(answer.body.size())) << path;
    EXPECT_EQ(answer.headers.at("cache-control"), "no-cache") << path;
    EXPECT_EQ(answer.headers.at("x-content-type-options"), "nosniff") << path;
    const std::string policy = answer.headers.at("content-security-policy");
    for (const std::string part :
         {"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self'",
          "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"}) {
      EXPECT_THAT(policy, HasSubstr(part)) << path;
    }
  }
  EXPECT_THAT(Ask("GET", "/").body, HasSubstr("<title>freshet</title>"));
  EXPECT_THAT(Ask("GET", "/dashboard/chart.min.js").body, HasSubstr("Released under the MIT License"));
  EXPECT_THAT(Ask("GET", "/dashboard/bootstrap-reboot.min.css").body, HasSubstr("Licensed under MIT"));
}

TEST_F(DashboardTest, EveryFileThatThePageNamesIsThere) {
  size_t named = 0;
  for (const EmbeddedFile& file : EmbeddedFiles()) {
    EXPECT_FALSE(file.content.empty()) << file.name;
    const std::string text(file.content);
    if (file.name == "chart.min.js") continue;
    for (const std::string before : {"\"/dashboard/", "from \"./"}) {
      for (size_t at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
        const size_t begin = at + before.size();
        const std::string name = text.substr(begin, text.find('"', begin) - begin);
        EXPECT_EQ(Ask("GET", "/dashboard/" + name).status, 200) << file.name << " names " << name;
        ++named;
      }
    }
    EXPECT_THAT(text, Not(HasSubstr("<style"))) << "the policy forbids it";
    if (text.starts_with("/*!")) continue;  // a library's, with its home in the notice
    EXPECT_THAT(text, Not(HasSubstr("https://"))) << file.name;
  }
  EXPECT_GE(named, 8u);
}

TEST_F(DashboardTest, SendsAFileOnlyOnce) {
  const std::string tag = Ask("GET", "/").headers.at("etag");
  EXPECT_NE(Ask("GET", "/dashboard/dashboard.js").headers.at("etag"), tag);
  for (const std::string& known : {tag, "\"x\", W/" + tag, std::string("*")}) {
    const HttpAnswer answer = Ask("GET", "/", "If-None-Match: " + known + "\r\n");
    EXPECT_EQ(answer.status, 304) << known;
    EXPECT_EQ(answer.headers.at("etag"), tag);
    EXPECT_EQ(answer.body, "");
    EXPECT_FALSE(answer.headers.contains("content-length")) << "that of 200 is another";
  }
  EXPECT_EQ(Ask("GET", "/", "If-None-Match: \"0123456789abcdef\"\r\n").status, 200);
}

TEST_F(DashboardTest, ConnectionsLiveOnAfter304) {
  HttpClient client(plane_->port());
  const std::string tag = Ask("GET", "/").headers.at("etag");
  ASSERT_TRUE(client.Send("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: " + tag + "\r\n\r\n"));
  EXPECT_EQ(client.Receive(true)->status, 304);
  EXPECT_EQ(client.Get("/healthz")->status, 200);
}

TEST_F(DashboardTest, KnowsOnlyItsPathsAndMethods) {
  for (const std::string path : {"/index.html", "/dashboard", "/dashboard/", "/dashboard/index.html", "/dashboard/../",
                                 "/dashboard/x.js", "/dashboard/%64ashboard.js", "//"}) {
    EXPECT_EQ(Ask("GET", path).status, 404) << path;
  }
  const HttpAnswer head = Ask("HEAD", "/");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), std::to_string(Ask("GET", "/").body.size()));
  for (const std::string method : {"POST", "DELETE"}) {
    const HttpAnswer answer = Ask(method, "/", "Content-Length: 0\r\n");
    EXPECT_EQ(answer.status, 405) << method;
    EXPECT_EQ(answer.headers.at("allow"), "GET, HEAD");
  }
}

TEST_F(DashboardTest, NamesItems) {
  const auto items = [&](const std::string& ids) {
    return json::parse(Ask("GET", "/v1/items?ids=" + ids).body).at("items");
  };
  EXPECT_EQ(items("i1"), json::parse(R"([{"item_id":"i1","title":"Quiet Window","category":"mystery"}])"));
  EXPECT_EQ(items("none,a%2Cb,bare"), json::parse(R"([{"item_id":"a,b","title":"Été"},{"item_id":"bare"}])"));
  EXPECT_EQ(items(""), json::array());
  EXPECT_EQ(items(",,"), json::array());
  EXPECT_EQ(Ask("GET", "/v1/items").status, 400);
  EXPECT_EQ(Ask("GET", "/v1/items?ids=i1,%zz").status, 400);
}

TEST_F(DashboardTest, ShowsDeadLetters) {
  const auto letters = [&] { return json::parse(Ask("GET", "/v1/dead-letters").body).at("dead_letters"); };
  EXPECT_EQ(letters(), json::array());
  samples_.Add(RecordAt(7, "not \xff an <event>"), {"invalid_json", "expected an object"});
  json shown = letters();
  ASSERT_EQ(shown.size(), 1u);
  EXPECT_GT(shown[0].at("read_at"), 1'600'000'000'000);
  shown[0].erase("read_at");
  EXPECT_EQ(shown[0],
            json::parse(R"({"reason":"invalid_json","message":"expected an object","topic":"clicks","partition":2,
      "offset":7,"key":"u1","value":"not � an <event>","cut":false})"));
}

TEST(DeadLetterSamples, KeepsTheNewestOfEachReason) {
  DeadLetterSamples samples;
  for (int64_t offset = 0; offset < 100; ++offset) samples.Add(RecordAt(offset, "x"), {"invalid_json", "m"});
  samples.Add(RecordAt(3, "y"), {"missing_item_id", "m"});
  for (int64_t offset = 97; offset < 100; ++offset) samples.Add(RecordAt(offset, "x"), {"invalid_json", "m"});  // again
  std::vector<int64_t> offsets;
  for (const DeadLetterSample& sample : samples.Newest()) offsets.push_back(Raw(sample.offset));
  EXPECT_EQ(offsets, (std::vector<int64_t>{99, 98, 97, 96, 95, 3}));
}

TEST(DeadLetterSamples, AreWhatADecoderRefuses) {
  DeadLetterSamples samples;
  auto made = MakeDecoder({});
  ASSERT_TRUE(made.ok());
  const auto decoder = WithSamples(std::move(made).value(), samples);
  Arena arena;
  const auto decode = [&](int64_t offset, std::string_view value) {
    RawRecord record = RecordAt(offset, arena.Copy(value));
    return decoder->Decode(record, arena).index();
  };
  EXPECT_EQ(decode(1, R"({"user_id":"u1","item_id":"i1","timestamp":1506826800026})"), 0u);
  EXPECT_TRUE(samples.Newest().empty());
  EXPECT_EQ(decode(2, R"({"user_id":"u1","item_id":"i1"})"), 1u);
  ASSERT_EQ(samples.Newest().size(), 1u);
  EXPECT_EQ(samples.Newest()[0].reason, "missing_timestamp");
  EXPECT_EQ(samples.Newest()[0].offset, Offset{2});
}

TEST(DeadLetterSamples, IsBounded) {
  DeadLetterSamples samples;
  const std::string value(100'000, 'v');
  for (int reason = 0; reason < 1000; ++reason) {
    for (int64_t offset = 0; offset < 10; ++offset) {
      RawRecord record = RecordAt(offset, value);
      record.key = value;
      samples.Add(record, {"reason" + std::to_string(reason), value});
    }
  }
  const auto newest = samples.Newest();
  EXPECT_EQ(newest.size(), DeadLetterSamples::kReasons * DeadLetterSamples::kKept);
  for (const DeadLetterSample& sample : newest) {
    EXPECT_TRUE(sample.cut);
    for (const std::string* text : {&sample.key, &sample.value, &sample.message}) {
      EXPECT_EQ(text->size(), DeadLetterSamples::kMostBytes);
    }
  }
}

TEST(DeadLetterSamples, ManyMayAddAndLook) {
  DeadLetterSamples samples;
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 3; ++worker) {
    workers.emplace_back([&, worker] {
      for (int64_t offset = 0; offset < 2000; ++offset) samples.Add(RecordAt(3 * offset + worker, "x"), {"r", "m"});
    });
  }
  for (int look = 0; look < 100; ++look) EXPECT_LE(samples.Newest().size(), DeadLetterSamples::kKept);
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(samples.Newest().size(), DeadLetterSamples::kKept);
}

TEST(ItemTitles, SaysWhatIsWrongAndWhere) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "items.jsonl";
  const auto refused = [&] {
    const auto titles = ItemTitles::Load(file);
    return titles.ok() ? "" : titles.error().message();
  };
  EXPECT_THAT(refused(), HasSubstr("items.jsonl: No such file"));
  for (const std::string bad :
       {"x", "[]", "{}", R"({"item_id":""})", R"({"item_id":7})", R"({"item_id":"i","title":1})",
        R"({"item_id":"i","category":[]})", "{\"item_id\":\"\xff\"}"}) {
    std::ofstream(file) << "{\"item_id\":\"i1\"}\n" << bad << "\n";
    EXPECT_THAT(refused(), HasSubstr("items.jsonl:2: expected an item such as")) << bad;
  }
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_THAT(refused(), HasSubstr("not a directory"));
}

TEST(ItemTitles, TheLastLineOfAnItemCounts) {
  const ItemTitles titles = TitlesOf("{\"item_id\":\"i1\",\"title\":\"a\"}\r\n{\"item_id\":\"i1\",\"title\":\"b\"}");
  ASSERT_NE(titles.Find("i1"), nullptr);
  EXPECT_EQ(titles.Find("i1")->title, "b");
  EXPECT_EQ(titles.size(), 1u);
  EXPECT_EQ(titles.Find("i2"), nullptr);
}

}  // namespace
}  // namespace freshet
