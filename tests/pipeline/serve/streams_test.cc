// Streams of `freshet serve`: from a record in the store to the event that a client reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ingest/memory.h"
#include "pipeline/readiness.h"
#include "pipeline/serve/recommendation_server.h"
#include "pipeline/serve/recommendation_streams.h"
#include "pipeline/serve/topic_follower.h"
#include "state/recommendation_store.h"
#include "tests/pipeline/http/client.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// What an event says; nothing where the stream is closed.
struct Event {
  std::string id;
  std::string name;
  json data;
};

class ServeStreams : public testing::Test {
 protected:
  void SetUp() override {
    RecommendationStoreOptions options;
    options.directory = directory_.path() / "served";
    options.topic = "answers";
    auto store = RecommendationStore::Open(options);
    ASSERT_TRUE(store.ok());
    store_ = std::move(store).value();
    streams_.emplace(*store_);
    follower_.emplace(source_, *store_, *streams_, TopicRange{}, readiness_);
    readiness_.Ready("topic");
    RecommendationServerOptions listen;
    listen.listen = "127.0.0.1:0";
    listen.max_streams = 8;
    auto server = RecommendationServer::Start(listen, *store_, *streams_, *follower_, readiness_);
    ASSERT_TRUE(server.ok());
    server_ = std::move(server).value();
  }

  // As the follower takes a batch of records in; no value removes the user.
  void Publish(const std::vector<std::pair<std::string, std::string>>& records) {
    std::vector<RawRecord> batch;
    for (const auto& [user, value] : records) {
      if (value.empty()) {
        ASSERT_TRUE(store_->Remove(user, Offset{99}).ok());
      } else {
        ASSERT_TRUE(store_->Put(user, json::parse(value)["sequence_number"], value).ok());
      }
      batch.emplace_back().key = user;
    }
    ASSERT_TRUE(store_->Commit().ok());
    streams_->Tell(batch);
  }

  static std::string Record(const std::string& user, int number, int items = 3) {
    json record = {{"user_id", user}, {"sequence_number", number}, {"items", json::array()}};
    for (int i = 0; i < items; ++i)
      record["items"].push_back({{"item_id", "i" + std::to_string(i)}, {"score", 1.0 / (1 + i)}});
    return record.dump();
  }

  std::unique_ptr<HttpClient> Open(const std::string& user, const std::string& query = "",
                                   const std::string& headers = "") {
    auto client = std::make_unique<HttpClient>(server_->port());
    client->Send("GET /v1/recommendations/" + user + "/stream" + query + " HTTP/1.1\r\nHost: localhost\r\n" + headers +
                 "\r\n");
    const auto header = client->Receive();
    EXPECT_TRUE(header && header->status == 200 && header->headers.at("content-type") == "text/event-stream");
    return client;
  }

  static std::optional<Event> Next(HttpClient& client) {
    if (!client.ReceiveUntil("\r\n")) return std::nullopt;  // the chunk's size
    const auto text = client.ReceiveUntil("\n\n\r\n");
    if (!text) return std::nullopt;
    const auto field = [&](const std::string& name) {
      const size_t begin = text->find(name + ": ");
      EXPECT_NE(begin, std::string::npos) << *text;
      return text->substr(begin + name.size() + 2, text->find('\n', begin) - begin - name.size() - 2);
    };
    return Event{field("id"), field("event"), json::parse(field("data"))};
  }

  TemporaryDirectory directory_;
  MemoryTopic topic_;
  MemorySource source_{topic_};
  Readiness readiness_;
  std::unique_ptr<RecommendationStore> store_;
  std::optional<RecommendationStreams> streams_;
  std::optional<TopicFollower> follower_;
  std::unique_ptr<RecommendationServer> server_;
};

TEST_F(ServeStreams, TheNewestAndThenEachNewer) {
  Publish({{"u1", Record("u1", 1)}, {"u1", Record("u1", 7)}, {"u2", Record("u2", 4)}});
  const auto client = Open("u1");
  for (int number = 7; number < 40; ++number) {
    const auto event = Next(*client);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->id, std::to_string(number));
    EXPECT_EQ(event->name, "recommendations");
    EXPECT_EQ(event->data, json::parse(Record("u1", number)));
    Publish({{"u2", Record("u2", number)}, {"u1", Record("u1", number + 1)}});
  }
}

TEST_F(ServeStreams, WhoIsUnknownIsWaitedFor) {
  const auto client = Open("a%2Fb%20%C3%A9");
  Publish({{"u1", Record("u1", 1)}});
  Publish({{"a/b é", Record("a/b é", 1)}});
  const auto event = Next(*client);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->data["user_id"], "a/b é");
}

TEST_F(ServeStreams, AKnownEventIsNotSentAgain) {
  Publish({{"u1", Record("u1", 7)}});
  const auto client = Open("u1", "", "Last-Event-ID: 7\r\n");
  const auto behind = Open("u1", "", "Last-Event-ID: 6\r\n");
  EXPECT_EQ(Next(*behind)->id, "7");
  Publish({{"u1", Record("u1", 7)}});  // repeated, as after a crash
  Publish({{"u1", Record("u1", 8)}});
  EXPECT_EQ(Next(*client)->id, "8");
  EXPECT_EQ(Next(*behind)->id, "8");
}

TEST_F(ServeStreams, ARemovedUserMayComeBack) {
  const auto look_up = [&](const std::string& known) {
    return HttpExchange(server_->port(), "GET /v1/recommendations/u1 HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \"" +
                                             known + "\"\r\n\r\n");
  };
  Publish({{"u1", Record("u1", 7)}});
  const auto client = Open("u1");
  EXPECT_EQ(Next(*client)->id, "7");
  EXPECT_EQ(look_up("7")->status, 304);
  Publish({{"u1", ""}});
  EXPECT_EQ(look_up("7")->status, 404);
  const auto removed = Next(*client);
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->id, "") << "a browser forgets which record it had";
  EXPECT_EQ(removed->name, "removed");
  EXPECT_EQ(removed->data, json::object());
  Publish({{"u1", ""}});  // of that the client hears nothing
  Publish({{"u1", Record("u1", 7, 2)}});
  EXPECT_EQ(Next(*client)->id, "7-99") << "another record than the one of that number before";
  const auto again = look_up("7");
  EXPECT_EQ(again->status, 200);
  EXPECT_EQ(again->headers.at("etag"), "\"7-99\"");
  EXPECT_EQ(look_up("7-99")->status, 304);
}

TEST_F(ServeStreams, WhoWasRemovedMeanwhileIsSaid) {
  const auto client = Open("u1", "", "Last-Event-ID: 7\r\n");
  EXPECT_EQ(Next(*client)->name, "removed");
  readiness_.NotReady("topic", "its records up to now are being read");
  const auto early = Open("u1", "", "Last-Event-ID: 7\r\n");
  Publish({{"u1", Record("u1", 7)}});
  EXPECT_EQ(Next(*early)->name, "recommendations") << "the store had not caught up";
}

TEST_F(ServeStreams, TheBestOfARecordOnOneLine) {
  std::string wide = json::parse(Record("u1", 7, 9)).dump(2);
  Publish({{"u1", wide}});
  const auto best = Open("u1", "?k=2");
  EXPECT_EQ(Next(*best)->data["items"].size(), 2u);
  const auto all = Open("u1");
  EXPECT_EQ(Next(*all)->data, json::parse(wide));
  for (const std::string bad : {"/v1/recommendations/u1/stream?k=0", "/v1/recommendations/%z/stream"}) {
    EXPECT_EQ(HttpGet(server_->port(), bad)->status, 400) << bad;
  }
  EXPECT_EQ(HttpGet(server_->port(), "/v1/recommendations//stream")->status, 404);
  EXPECT_EQ(HttpGet(server_->port(), "/v1/recommendations/stream")->status, 404) << "a user of that name";
}

TEST_F(ServeStreams, AreCountedAndBounded) {
  const auto streams = [&] { return HttpGet(server_->port(), "/metrics")->body; };
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(Open("u1"));
  EXPECT_THAT(streams(), HasSubstr("freshet_serve_streams 8\n"));
  EXPECT_THAT(streams(), HasSubstr("freshet_rocksdb_table_bytes "));
  EXPECT_EQ(HttpGet(server_->port(), "/v1/recommendations/u1/stream")->status, 503);
  Publish({{"u1", Record("u1", 1)}});
  for (const auto& client : clients) EXPECT_EQ(Next(*client)->id, "1");
  EXPECT_EQ(HttpGet(server_->port(), "/v1/recommendations/u1")->status, 200);
  clients.clear();
  while (streams().find("freshet_serve_streams 0\n") == std::string::npos) {
  }
  EXPECT_EQ(streams_->open(), 0u);
}

}  // namespace
}  // namespace freshet
