#include "pipeline/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "tests/pipeline/http/client.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using http::Handler;
using http::Problem;
using http::Request;
using http::Respond;
using http::Response;
using http::Server;
using http::ServerOptions;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

ServerOptions Quick() {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.read_timeout = milliseconds(300);
  options.idle_timeout = milliseconds(300);
  options.write_timeout = milliseconds(300);
  options.answer_timeout = milliseconds(300);
  return options;
}

ServerOptions Patient() {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  return options;
}

void Echo(const Request& request, const Respond& respond) {
  respond({200, request.method + " " + request.path + " " + request.query + " " + request.body, "text/plain"});
}

std::unique_ptr<Server> StartServer(ServerOptions options, Handler handler = Echo) {
  auto server = Server::Start(std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << (server.ok() ? "" : server.error().message());
  return std::move(server).value();
}

milliseconds Since(steady_clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
}

std::string Get(const std::string& target, const std::string& headers = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}

void ExpectProblem(const std::optional<HttpAnswer>& answer, int status, const std::string& title) {
  ASSERT_TRUE(answer) << "closed without an answer, expected " << status;
  EXPECT_EQ(answer->status, status);
  EXPECT_EQ(answer->headers.at("content-type"), "application/problem+json");
  EXPECT_THAT(answer->body, HasSubstr("\"status\":" + std::to_string(status)));
  EXPECT_THAT(answer->body, HasSubstr("\"title\":\"" + title + "\""));
}

TEST(HttpServer, AnswersInOrderOnOneConnection) {
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  for (int i = 0; i < 50; ++i) {
    const auto answer = client.Get("/p" + std::to_string(i) + "?a=b&c");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "GET /p" + std::to_string(i) + " a=b&c ");
    EXPECT_EQ(answer->headers.at("content-type"), "text/plain");
    EXPECT_TRUE(answer->headers.contains("date"));
  }
}

TEST(HttpServer, HeadIsGetWithoutTheBody) {
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  ASSERT_TRUE(client.Send("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto head = client.Receive(true);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->headers.at("content-length"), "8");
  const auto get = client.Get("/x");
  ASSERT_TRUE(get) << "the connection goes on in step";
  EXPECT_EQ(get->body, "GET /x  ");
  ASSERT_TRUE(client.Send("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n"));
  ASSERT_TRUE(client.Receive(true));
  ExpectProblem(client.Receive(), 400, "Bad Request");
}

TEST(HttpServer, TakesBodiesAndOtherForms) {
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  ASSERT_TRUE(client.Send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"));
  EXPECT_EQ(client.Receive()->body, "POST /b  hello");
  ASSERT_TRUE(
      client.Send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
  EXPECT_EQ(client.Receive()->body, "POST /c  abcde");
  ASSERT_TRUE(client.Send(Get("http://some.where:80/d?e=f")));
  EXPECT_EQ(client.Receive()->body, "GET /d e=f ");
  ASSERT_TRUE(client.Send(Get("http://some.where")));
  EXPECT_EQ(client.Receive()->body, "GET /  ");
  ASSERT_TRUE(client.Send("GET /old HTTP/1.0\r\n\r\n"));
  EXPECT_EQ(client.Receive()->body, "GET /old  ");
  EXPECT_TRUE(client.WaitForClose()) << "HTTP/1.0 closes";
}

TEST(HttpServer, ContinuesWhenAsked) {
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  ASSERT_TRUE(client.Send("PUT /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
  EXPECT_EQ(client.Receive()->status, 100);
  ASSERT_TRUE(client.Send("ok"));
  EXPECT_EQ(client.Receive()->body, "PUT /e  ok");
}

TEST(HttpServer, AnswersPipelinedRequestsInOrder) {
  constexpr int kRequests = 2000;  // more than any buffer on the way holds
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  std::thread sender([&] {
    std::string all;
    for (int i = 0; i < kRequests; ++i)
      all += Get("/" + std::to_string(i), "X-Fill: " + std::string(200, 'f') + "\r\n");
    EXPECT_TRUE(client.Send(all));
  });
  for (int i = 0; i < kRequests; ++i) {
    const auto answer = client.Receive();
    ASSERT_TRUE(answer) << i;
    ASSERT_EQ(answer->body, "GET /" + std::to_string(i) + "  ");
  }
  sender.join();
}

TEST(HttpServer, RefusesWhatIsNotHttp) {
  const auto server = StartServer(Patient());
  ExpectProblem(HttpExchange(server->port(), "hello there\r\n\r\n"), 400, "Bad Request");
  ExpectProblem(HttpExchange(server->port(), "GET / HTTP/1.1\r\n\r\n"), 400, "Bad Request");  // no Host
  ExpectProblem(HttpExchange(server->port(), "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400, "Bad Request");
  ExpectProblem(HttpExchange(server->port(), "GET / HTTP/1.1\r\nHost x\r\n\r\n"), 400, "Bad Request");
  ExpectProblem(HttpExchange(server->port(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"), 400,
                "Bad Request");
  ExpectProblem(HttpExchange(server->port(), std::string("GET /\0 HTTP/1.1\r\n\r\n", 19)), 400, "Bad Request");
  ExpectProblem(HttpExchange(server->port(), "GET / HTTP/9.9\r\nHost: x\r\n\r\n"), 400, "Bad Request");
}

TEST(HttpServer, SurvivesGarbage) {
  const auto server = StartServer(Quick());
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 100; ++round) {
    std::string bytes(random() % 20000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    HttpClient client(server->port());
    client.Send(round % 2 == 0 ? bytes : "GET / HTTP/1.1\r\n" + bytes);
    if (round % 3 == 0) client.Abort();
  }
  EXPECT_EQ(HttpGet(server->port(), "/alive")->status, 200);
}

TEST(HttpServer, BoundsTargetHeaderAndBody) {
  const auto server = StartServer(Patient());
  const uint16_t port = server->port();
  ExpectProblem(HttpExchange(port, Get("/" + std::string(9000, 'a'))), 414, "URI Too Long");
  ExpectProblem(HttpExchange(port, Get("/", "A: " + std::string(9000, 'a') + "\r\n")), 431,
                "Request Header Fields Too Large");
  std::string many;
  for (int i = 0; i < 500; ++i) many += "H" + std::to_string(i) + ": 0123456789\r\n";
  ExpectProblem(HttpExchange(port, Get("/", many)), 431, "Request Header Fields Too Large");
  const std::string post = "POST / HTTP/1.1\r\nHost: x\r\n";
  ExpectProblem(HttpExchange(port, post + "Content-Length: 65537\r\n\r\n" + std::string(65537, 'b')), 413,
                "Payload Too Large");
  ExpectProblem(HttpExchange(port, post + "Content-Length: 99999999999\r\n\r\n"), 413, "Payload Too Large");
  ExpectProblem(HttpExchange(port, post + "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + std::string(0x20000, 'b')),
                413, "Payload Too Large");
  const auto fits = HttpExchange(port, post + "Content-Length: 65536\r\n\r\n" + std::string(65536, 'b'));
  ASSERT_TRUE(fits);
  EXPECT_EQ(fits->status, 200);
  EXPECT_EQ(HttpExchange(port, Get("/" + std::string(7000, 'a')))->status, 200);
}

TEST(HttpServer, RefusalReachesAClientThatStillSends) {
  const auto server = StartServer(Patient());
  HttpClient client(server->port());
  std::string request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" + std::string(4'000'000, 'b');
  client.Send(request);
  ExpectProblem(client.Receive(), 413, "Payload Too Large");
  EXPECT_TRUE(client.WaitForClose());
}

TEST(HttpServer, ClosesClientsThatDribble) {
  const auto server = StartServer(Quick());
  HttpClient silent(server->port());
  HttpClient dribbling(server->port());
  HttpClient in_body(server->port());
  ASSERT_TRUE(in_body.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"));
  const auto start = steady_clock::now();
  const std::string header = "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(1000, 'x');
  size_t sent = 0;
  while (sent < header.size() && dribbling.Send(header.substr(sent, 1)) && in_body.Send("b")) {
    ++sent;
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_LT(sent, 60u);
  EXPECT_TRUE(silent.WaitForClose());
  EXPECT_TRUE(in_body.WaitForClose());
  EXPECT_LT(Since(start), milliseconds(3000));
}

TEST(HttpServer, ClosesIdleConnections) {
  const auto server = StartServer(Quick());
  HttpClient client(server->port());
  ASSERT_TRUE(client.Get("/"));
  const auto start = steady_clock::now();
  EXPECT_TRUE(client.WaitForClose());
  EXPECT_GT(Since(start), milliseconds(200));
  EXPECT_LT(Since(start), milliseconds(3000));
}

TEST(HttpServer, ClosesClientsThatDoNotTakeTheirAnswer) {
  std::atomic<int> answered{0};
  const auto server = StartServer(Quick(), [&](const Request&, const Respond& respond) {
    ++answered;
    respond({200, std::string(50'000'000, 'x')});
  });
  HttpClient client(server->port());
  ASSERT_TRUE(client.Send(Get("/") + Get("/")));
  std::this_thread::sleep_for(milliseconds(1000));
  EXPECT_FALSE(client.Receive()) << "cut off in the middle";
  EXPECT_EQ(answered, 1) << "the second request was not read before the first answer was taken";
}

TEST(HttpServer, ServesOthersWhileManyHoldConnections) {
  const auto server = StartServer(Patient());
  std::vector<std::unique_ptr<HttpClient>> holders;
  for (int i = 0; i < 300; ++i) {
    holders.push_back(std::make_unique<HttpClient>(server->port()));
    ASSERT_TRUE(holders.back()->connected());
    if (i % 2 == 0) holders.back()->Send("GET /slow HTTP/1.1\r\n");
  }
  const auto start = steady_clock::now();
  const auto answer = HttpGet(server->port(), "/");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_LT(Since(start), milliseconds(2000));
  EXPECT_TRUE(holders.front()->WaitForClose()) << "the longest waiting gave way";
  ASSERT_TRUE(holders.back()->Send("Host: x\r\n\r\n") && holders[298]->Send("Host: x\r\n\r\n"));
  EXPECT_TRUE(holders[298]->Receive()) << "later ones are still served";
}

TEST(HttpServer, RefusesPromptlyWhereAllConnectionsAwaitAnswers) {
  ServerOptions options = Patient();
  options.max_connections = 4;
  std::mutex mutex;
  std::vector<Respond> waiting;
  const auto server = StartServer(options, [&](const Request&, Respond respond) {
    const std::lock_guard lock(mutex);
    waiting.push_back(std::move(respond));
  });
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server->port()));
    ASSERT_TRUE(clients.back()->Send(Get("/")));
  }
  const auto all_wait = [&] {
    const std::lock_guard lock(mutex);
    return waiting.size() == 4;
  };
  while (!all_wait()) std::this_thread::sleep_for(milliseconds(1));
  const auto start = steady_clock::now();
  HttpClient fifth(server->port());
  EXPECT_TRUE(fifth.WaitForClose());
  EXPECT_LT(Since(start), milliseconds(1000));
  for (const Respond& respond : waiting) respond({200, "done"});
  for (const auto& client : clients) EXPECT_EQ(client->Receive()->body, "done");
}

TEST(HttpServer, AnswersFromOtherThreadsOnce) {
  std::vector<std::thread> threads;
  const auto server = StartServer(Patient(), [&](const Request& request, const Respond& respond) {
    threads.emplace_back([respond, path = request.path] {
      respond({200, path});
      respond({500, "a second answer"});
    });
  });
  HttpClient client(server->port());
  for (int i = 0; i < 100; ++i) {
    const auto answer = client.Get("/" + std::to_string(i));
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->body, "/" + std::to_string(i));
  }
  for (auto& thread : threads) thread.join();
}

TEST(HttpServer, AnswersForAHandlerThatDoesNot) {
  std::vector<Respond> kept;
  std::vector<int> told;
  ServerOptions options = Quick();
  options.on_response = [&](int status) { told.push_back(status); };
  auto server = StartServer(options, [&](const Request& request, Respond respond) {
    if (request.path == "/throw") throw std::runtime_error("a defect");
    kept.push_back(std::move(respond));
  });
  HttpClient client(server->port());
  const auto late = client.Get("/");
  ExpectProblem(late, 504, "Gateway Timeout");
  EXPECT_EQ(late->headers.at("retry-after"), "1");
  kept[0]({200, "too late"});
  ExpectProblem(client.Get("/throw"), 500, "Internal Server Error");
  ASSERT_TRUE(client.Send(Get("/")));
  while (client.connected() && !client.WaitForClose()) {
  }
  server.reset();
  EXPECT_EQ(told, std::vector<int>({504, 500, 504}));
  kept[0]({200, "after the server is gone"});
}

TEST(HttpServer, SurvivesClientsThatGoAwayDuringAnAnswer) {
  std::vector<std::thread> threads;
  std::mutex mutex;
  const auto server = StartServer(Quick(), [&](const Request& request, const Respond& respond) {
    if (request.path == "/alive") return respond({200, "yes"});
    const std::lock_guard lock(mutex);
    threads.emplace_back([respond] {
      std::this_thread::sleep_for(milliseconds(10));
      respond({200, std::string(5'000'000, 'x')});
    });
  });
  for (int i = 0; i < 30; ++i) {
    HttpClient client(server->port());
    ASSERT_TRUE(client.Send(Get("/")));
    if (i % 3 != 0) std::this_thread::sleep_for(milliseconds(i));
    client.Abort();
  }
  const auto answer = HttpGet(server->port(), "/alive");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->body, "yes");
  const std::lock_guard lock(mutex);
  for (auto& thread : threads) thread.join();
}

TEST(HttpServer, StopsAtOnceWhateverIsOpen) {
  std::vector<Respond> kept;
  auto server = StartServer(Patient(), [&](const Request&, Respond respond) { kept.push_back(std::move(respond)); });
  HttpClient idle(server->port());
  HttpClient half(server->port());
  ASSERT_TRUE(half.Send("GET / HT"));
  HttpClient waiting(server->port());
  ASSERT_TRUE(waiting.Send(Get("/")));
  std::this_thread::sleep_for(milliseconds(100));
  const uint16_t port = server->port();
  const auto start = steady_clock::now();
  server.reset();
  EXPECT_LT(Since(start), milliseconds(500));
  for (HttpClient* const client : {&idle, &half, &waiting}) EXPECT_TRUE(client->WaitForClose());
  EXPECT_FALSE(HttpClient(port).connected());
  std::thread([&] {
    for (const Respond& respond : kept) respond({200, "late"});
    kept.clear();
  }).join();
}

TEST(HttpServer, StartsOnlyWhereItCan) {
  const auto error = [](const std::string& listen) {
    ServerOptions options;
    options.listen = listen;
    const auto server = Server::Start(options, Echo);
    return server.ok() ? "started" : server.error().message();
  };
  const auto server = StartServer(Patient());
  const std::string taken = "127.0.0.1:" + std::to_string(server->port());
  EXPECT_EQ(error(taken), "http.listen: " + taken + ": address already in use");
  for (const std::string bad : {"", "8080", ":8080", "127.0.0.1:", "127.0.0.1:http", "::1:8080", "[::1]", "[::1:80",
                                "[127.0.0.1]:80", "127.0.0.1:-1", "127.0.0.1:70000"}) {
    EXPECT_THAT(error(bad), HasSubstr("expected host:port")) << bad;
  }
  EXPECT_THAT(error("203.0.113.7:0"), HasSubstr("203.0.113.7:0: ")) << "not an address of this machine";
}

TEST(HttpServer, RestartsOnItsPort) {
  auto server = StartServer(Patient());
  ServerOptions options = Patient();
  options.listen = "127.0.0.1:" + std::to_string(server->port());
  HttpClient client(server->port());
  ASSERT_TRUE(client.Get("/"));
  server.reset();
  server = StartServer(options);
  EXPECT_EQ(HttpGet(server->port(), "/")->status, 200);
}

TEST(HttpServer, ListensOnIpv6) {
  ServerOptions options = Patient();
  options.listen = "[::1]:0";
  auto server = Server::Start(options, Echo);
  if (!server.ok()) GTEST_SKIP() << "no IPv6 loopback here: " << server.error().message();
  HttpClient client((*server)->port(), "::1");
  ASSERT_TRUE(client.Get("/six"));
}

TEST(HttpProblem, IsJsonWhateverTheDetail) {
  EXPECT_EQ(
      Problem(404, "no \"u\xff\"").body,
      "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"no \\\"u\xef\xbf\xbd\\\"\"}");
}

}  // namespace
}  // namespace freshet
