// Answers that go on: what is sent when, to clients that are slow, go away or are too many, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "pipeline/http/event_stream.h"
#include "pipeline/http/server.h"
#include "tests/pipeline/http/client.h"

namespace freshet {
namespace {

using http::EventStream;
using http::Request;
using http::Respond;
using http::Response;
using http::Server;
using http::ServerOptions;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::EndsWith;
using testing::HasSubstr;

constexpr milliseconds kPatience{10'000};

// What the streams of a test send: the newest of what was published.
struct Topic {
  using Text = std::optional<std::string>;

  void Publish(const Text& text) {
    const std::lock_guard lock(mutex);
    newest = text;
    ++version;
    for (EventStream* const stream : open) stream->Wake();
  }
  size_t streams() {
    const std::lock_guard lock(mutex);
    return open.size();
  }
  bool WaitForStreams(size_t count) {
    const auto start = steady_clock::now();
    while (streams() != count) {
      if (steady_clock::now() - start > kPatience) return false;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }

  std::mutex mutex;
  Text newest = "first";
  int version = 1;
  std::vector<EventStream*> open;
  std::atomic<int> asked{0};
};

class TopicStream final : public EventStream {
 public:
  explicit TopicStream(Topic& topic) : topic_(topic) {
    const std::lock_guard lock(topic_.mutex);
    topic_.open.push_back(this);
  }
  ~TopicStream() override {
    const std::lock_guard lock(topic_.mutex);
    std::erase(topic_.open, this);
  }

 private:
  std::optional<std::string> Next() override {
    ++topic_.asked;
    const std::lock_guard lock(topic_.mutex);
    if (topic_.newest == "throw") throw std::runtime_error("a defect");
    return std::exchange(sent_, topic_.version) == topic_.version ? "" : topic_.newest;
  }

  Topic& topic_;
  int sent_ = 0;
};

class HttpStream : public testing::Test {
 protected:
  void Start(const std::function<void(ServerOptions&)>& change = {}) {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    if (change) change(options);
    auto server = Server::Start(options, [this](const Request& request, const Respond& respond) {
      if (request.path != "/stream") return respond({200, request.last_event_id, "text/plain"});
      Response response;
      response.content_type = "text/event-stream";
      response.stream = std::make_shared<TopicStream>(topic_);
      respond(std::move(response));
    });
    ASSERT_TRUE(server.ok());
    server_ = std::move(server).value();
  }

  // A client that has the header and the first part.
  std::unique_ptr<HttpClient> Open() {
    auto client = std::make_unique<HttpClient>(server_->port());
    const auto header = client->Get("/stream");
    EXPECT_TRUE(header && header->status == 200);
    EXPECT_EQ(client->ReceiveUntil("first\r\n"), "5\r\nfirst\r\n");
    return client;
  }

  Topic topic_;
  std::unique_ptr<Server> server_;
};

TEST_F(HttpStream, SendsEachPartAsItComes) {
  Start();
  HttpClient client(server_->port());
  const auto header = client.Get("/stream");
  ASSERT_TRUE(header);
  EXPECT_EQ(header->headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(header->headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(header->headers.at("cache-control"), "no-store");
  EXPECT_FALSE(header->headers.contains("content-length"));
  EXPECT_EQ(client.ReceiveUntil("first\r\n"), "5\r\nfirst\r\n");
  for (int i = 0; i < 200; ++i) {
    const std::string text = "part " + std::to_string(1000 + i);
    std::thread([&] { topic_.Publish(text); }).join();
    ASSERT_EQ(client.ReceiveUntil("part " + std::to_string(1000 + i) + "\r\n"), "9\r\n" + text + "\r\n");
  }
}

TEST_F(HttpStream, TellsWhichEventTheClientHad) {
  Start();
  const auto answer = HttpExchange(server_->port(), "GET / HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 17\r\n\r\n");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "17");
}

TEST_F(HttpStream, Http10HasNoChunks) {
  Start();
  HttpClient client(server_->port());
  ASSERT_TRUE(client.Send("GET /stream HTTP/1.0\r\n\r\n"));
  const auto header = client.Receive();
  ASSERT_TRUE(header);
  EXPECT_FALSE(header->headers.contains("transfer-encoding"));
  EXPECT_EQ(client.ReceiveUntil("first"), "first");
  topic_.Publish("second");
  EXPECT_EQ(client.ReceiveUntil("second"), "second");
  topic_.Publish(std::nullopt);
  EXPECT_TRUE(client.WaitForClose());
}

TEST_F(HttpStream, HeadIsTheHeaderAlone) {
  Start();
  HttpClient client(server_->port());
  ASSERT_TRUE(client.Send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto header = client.Receive(true);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->headers.at("content-type"), "text/event-stream");
  EXPECT_TRUE(topic_.WaitForStreams(0));
  EXPECT_TRUE(client.Get("/")) << "the connection goes on";
}

TEST_F(HttpStream, ShowsThatItIsAlive) {
  Start([](ServerOptions& options) { options.keep_alive_interval = milliseconds(50); });
  const auto client = Open();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client->ReceiveUntil("\n\n\r\n"), "3\r\n:\n\n\r\n");
  topic_.Publish("second");
  EXPECT_THAT(client->ReceiveUntil("second\r\n").value_or("closed"), EndsWith("6\r\nsecond\r\n"));
}

TEST_F(HttpStream, OutlivesTheTimesOfRequests) {
  Start([](ServerOptions& options) {
    options.read_timeout = options.idle_timeout = options.answer_timeout = options.write_timeout = milliseconds(100);
  });
  const auto client = Open();
  std::this_thread::sleep_for(milliseconds(500));
  topic_.Publish("second");
  EXPECT_EQ(client->ReceiveUntil("second\r\n"), "6\r\nsecond\r\n");
}

TEST_F(HttpStream, ASlowClientGetsTheNewest) {
  Start();
  const auto client = Open();
  constexpr int kParts = 100;
  for (int i = 0; i < kParts; ++i) {
    topic_.Publish(std::string(5'000'000, 'x') + std::to_string(i) + ";");
    std::this_thread::sleep_for(milliseconds(2));
  }
  EXPECT_LT(topic_.asked, 10) << "a part was made for each";
  topic_.Publish("the newest");
  EXPECT_TRUE(client->ReceiveUntil("the newest\r\n"));
}

TEST_F(HttpStream, AClientThatTakesNothingIsLeft) {
  Start([](ServerOptions& options) { options.write_timeout = milliseconds(300); });
  const auto client = Open();
  topic_.Publish(std::string(50'000'000, 'x'));
  EXPECT_TRUE(topic_.WaitForStreams(0));
  EXPECT_FALSE(client->ReceiveUntil("x\r\n")) << "cut off";
}

TEST_F(HttpStream, AClientThatGoesAwayIsForgotten) {
  Start();
  for (int i = 0; i < 20; ++i) {
    auto closing = Open();
    auto resetting = Open();
    auto sending = Open();
    EXPECT_EQ(topic_.streams(), 3u);
    closing.reset();
    resetting->Abort();
    sending->Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(sending->WaitForClose());
    ASSERT_TRUE(topic_.WaitForStreams(0));
    topic_.Publish("first");
  }
}

TEST_F(HttpStream, LeavesConnectionsToOthers) {
  std::atomic<int> refused{0};
  Start([&](ServerOptions& options) {
    options.max_connections = 4;
    options.max_streams = 2;
    options.on_response = [&](int status) { refused += status == 503 ? 1 : 0; };
  });
  auto first = Open();
  const auto second = Open();
  for (int i = 0; i < 20; ++i) {
    const auto third = HttpGet(server_->port(), "/stream");
    ASSERT_TRUE(third);
    EXPECT_EQ(third->status, 503);
    EXPECT_EQ(third->headers.at("retry-after"), "1");
    EXPECT_THAT(third->body, HasSubstr("no more than 2 streams"));
    const auto other = HttpGet(server_->port(), "/");
    ASSERT_TRUE(other);
    EXPECT_EQ(other->status, 200);
  }
  EXPECT_EQ(refused, 20);
  std::vector<std::unique_ptr<HttpClient>> idle;
  for (int i = 0; i < 10; ++i) idle.push_back(std::make_unique<HttpClient>(server_->port()));
  EXPECT_TRUE(HttpGet(server_->port(), "/"));
  topic_.Publish("second");
  EXPECT_TRUE(first->ReceiveUntil("second\r\n")) << "others do not push streams out";
  first.reset();
  ASSERT_TRUE(topic_.WaitForStreams(1));
  topic_.Publish("first");
  Open();
}

TEST_F(HttpStream, EndsWithAnEnd) {
  Start();
  const auto client = Open();
  topic_.Publish(std::nullopt);
  EXPECT_EQ(client->ReceiveUntil("\r\n\r\n"), "0\r\n\r\n");
  EXPECT_TRUE(client->WaitForClose());
  EXPECT_TRUE(topic_.WaitForStreams(0));
}

TEST_F(HttpStream, EndsWithTheServer) {
  Start();
  const auto client = Open();
  const auto stuck = Open();
  HttpClient idle(server_->port());
  topic_.Publish(std::string(50'000'000, 'x'));
  ASSERT_TRUE(client->ReceiveUntil("x\r\n"));
  const auto start = steady_clock::now();
  server_.reset();
  EXPECT_LT(steady_clock::now() - start, milliseconds(1000));
  EXPECT_EQ(client->ReceiveUntil("\r\n\r\n"), "0\r\n\r\n");
  for (HttpClient* const each : {client.get(), stuck.get(), &idle}) EXPECT_TRUE(each->WaitForClose());
  EXPECT_EQ(topic_.streams(), 0u);
  topic_.Publish("to nobody");
}

TEST_F(HttpStream, ADefectCostsOneConnection) {
  Start();
  const auto client = Open();
  topic_.Publish("throw");
  EXPECT_TRUE(client->WaitForClose());
  EXPECT_TRUE(topic_.WaitForStreams(0));
  topic_.Publish("first");
  Open();
}

TEST_F(HttpStream, SurvivesManyThatComeAndGo) {
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) topic_.Publish("first");
    });
  }
  for (int i = 0; i < 300; ++i) {
    HttpClient client(server_->port());
    ASSERT_TRUE(client.Get("/stream"));
    if (i % 3 == 0) client.Abort();
    if (i % 3 == 1) {
      EXPECT_TRUE(client.ReceiveUntil("first\r\n"));
    }
  }
  EXPECT_TRUE(topic_.WaitForStreams(0));
  const auto last = std::make_unique<HttpClient>(server_->port());
  ASSERT_TRUE(last->Get("/stream"));
  server_.reset();
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace freshet
