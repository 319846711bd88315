// What a client may send to be read in two ways, or to reach what it should not: each is refused as 400 and ends the
// connection, or is read in the one way that RFC 9110 and 9112 leave. Nothing that stands behind it is answered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

#include "pipeline/http/server.h"
#include "tests/pipeline/http/client.h"

namespace freshet {
namespace {

using http::Request;
using http::Respond;
using http::Server;
using http::ServerOptions;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr char kSmuggled[] = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

class HttpAbuse : public testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.read_timeout = std::chrono::milliseconds(500);
    options.idle_timeout = std::chrono::milliseconds(500);
    auto server = Server::Start(options, [this](const Request& request, const Respond& respond) {
      const std::lock_guard lock(mutex_);
      seen_.push_back(request.method + " " + request.path + " " + request.body);
      respond({200, "{}"});
    });
    ASSERT_TRUE(server.ok());
    server_ = std::move(server).value();
  }

  // The statuses of all answers until the server closes.
  std::vector<int> Send(const std::string& bytes) {
    HttpClient client(server_->port());
    client.Send(bytes);
    std::vector<int> statuses;
    while (const auto answer = client.Receive()) statuses.push_back(answer->status);
    return statuses;
  }
  std::vector<std::string> Seen() {
    const std::lock_guard lock(mutex_);
    return std::exchange(seen_, {});
  }
  void ExpectRefused(const std::string& request) {
    EXPECT_THAT(Send(request + kSmuggled), ElementsAre(400)) << request;
    EXPECT_THAT(Seen(), IsEmpty()) << request;
  }

  std::unique_ptr<Server> server_;
  std::mutex mutex_;
  std::vector<std::string> seen_;
};

std::string Post(const std::string& headers, const std::string& body) {
  return "POST /p HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body;
}

TEST_F(HttpAbuse, LengthsThatContradict) {
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  const std::string none = "0\r\n\r\n";
  ExpectRefused(Post("Content-Length: 5\r\n" + chunked, none));
  ExpectRefused(Post(chunked + "Content-Length: 5\r\n", none));
  ExpectRefused(Post("Content-Length: 5\r\nContent-Length: 6\r\n", "abcde"));
  for (const std::string length :
       {"-1", "+5", "0x5", "5 5", "5;", "5.0", "", " ", "99999999999999999999999", "5, 6", "a"}) {
    ExpectRefused(Post("Content-Length: " + length + "\r\n", "abcde"));
  }
}

TEST_F(HttpAbuse, EncodingsThatAreNotChunked) {
  for (const std::string encoding :
       {"gzip", "identity", "xchunked", "chunked, gzip", "gzip, chunked", "chunked, chunked", ""}) {
    ExpectRefused(Post("Transfer-Encoding: " + encoding + "\r\n", "0\r\n\r\n"));
  }
  ExpectRefused(Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"));
  ExpectRefused(Post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"));
  ExpectRefused("POST /p HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

TEST_F(HttpAbuse, ChunksThatAreNone) {
  for (const std::string chunk : {"-1\r\n", "x\r\n", "0x3\r\nabc\r\n", "\r\n", "3\nabc\n0\n\n", "3\r\nabcd\r\n",
                                  "ffffffffffffffffff\r\n", "3\r\nabc0\r\n\r\n"}) {
    ExpectRefused(Post("Transfer-Encoding: chunked\r\n", chunk));
  }
}

TEST_F(HttpAbuse, LinesThatAreNone) {
  for (const std::string request :
       {"GET /p HTTP/1.1\nHost: x\n\n", "GET /p HTTP/1.1\r\nHost: x\n\r\n", "GET /p HTTP/1.1\rHost: x\r\r",
        "GET /p HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", "GET /p HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: x\r\nA b: v\r\n\r\n", "GET /p HTTP/1.1\r\nHost: x\r\nA : v\r\n\r\n",
        "GET /p HTTP/1.1\r\n A: v\r\nHost: x\r\n\r\n", "GET  /p HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /p  HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /p\r\nHost: x\r\n\r\n",
        "GET /p HTTP/2.0\r\nHost: x\r\n\r\n", "GET /p http/1.1\r\nHost: x\r\n\r\n",
        "G(T /p HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}) {
    ExpectRefused(request);
  }
  for (const char byte : {'\0', '\x01', '\x0b', '\x7f'}) {
    ExpectRefused(std::string("GET /p HTTP/1.1\r\nHost: x\r\nA: v") + byte + "w\r\n\r\n");
    ExpectRefused(std::string("GET /p") + byte + " HTTP/1.1\r\nHost: x\r\n\r\n");
  }
}

TEST_F(HttpAbuse, HostsAndTokensThatAreTwo) {
  ExpectRefused("GET /p HTTP/1.1\r\n\r\n");
  ExpectRefused("GET /p HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n");
  ExpectRefused("GET /p HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n");
}

// What RFC 9112 lets a server read, it reads in one way: the body ends where its length says.
TEST_F(HttpAbuse, BodiesEndWhereTheyEnd) {
  const std::string smuggled = kSmuggled;
  EXPECT_THAT(Send("GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
                   std::to_string(smuggled.size()) + "\r\n\r\n" + smuggled),
              ElementsAre(200));
  EXPECT_THAT(Seen(), ElementsAre("GET /p " + smuggled));
  EXPECT_THAT(Send(Post("Transfer-Encoding: chunked\r\nConnection: close\r\n", "3;a=b\r\nabc\r\n0\r\nT: v\r\n\r\n")),
              ElementsAre(200));
  EXPECT_THAT(Seen(), ElementsAre("POST /p abc"));
  EXPECT_THAT(Send(Post("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nContent-Length: 0\r\n", "")),
              ElementsAre(200))
      << "there is nothing to upgrade to";
}

TEST_F(HttpAbuse, ChunksAndTrailersWithoutEnd) {
  const std::string chunked = "Transfer-Encoding: chunked\r\n";
  const auto bounded = [&](const std::string& body) {
    const std::vector<int> statuses = Send(Post(chunked, body));
    ASSERT_LE(statuses.size(), 1u);
    EXPECT_THAT(statuses, testing::Each(testing::AnyOf(400, 413, 431)));
    EXPECT_THAT(Seen(), IsEmpty());
  };
  bounded("1;" + std::string(1'000'000, 'e'));
  std::string trailers = "0\r\n";
  for (int i = 0; i < 100'000; ++i) trailers += "T: v\r\n";
  bounded(trailers);
  std::string ones;
  for (int i = 0; i < 100'000; ++i) ones += "1\r\nx\r\n";
  bounded(ones + "0\r\n\r\n");
}

TEST_F(HttpAbuse, HalfOpenConnectionsEnd) {
  EXPECT_THAT(Send(Post("Content-Length: 5\r\n", "abc")), IsEmpty());
  EXPECT_THAT(Send("GET /p HTTP/1.1\r\nHost: x\r\n"), IsEmpty());
  EXPECT_THAT(Send(Post("Content-Length: 5\r\nExpect: 100-continue\r\n", "")), ElementsAre(100));
  EXPECT_THAT(Seen(), IsEmpty());
}

TEST_F(HttpAbuse, AnswersAreNotGuessedTo) {
  const auto answer = HttpGet(server_->port(), "/p");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->headers.at("x-content-type-options"), "nosniff");
  for (const auto& [name, value] : answer->headers) EXPECT_FALSE(name.starts_with("access-control-")) << name;
}

}  // namespace
}  // namespace freshet
