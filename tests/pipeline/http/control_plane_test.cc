#include "pipeline/control_plane.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "tests/pipeline/http/client.h"
#include "tests/pipeline/live_answers.h"

namespace freshet {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// A control plane with one worker that holds what `holds` answers.
class ControlPlaneTest : public testing::Test {
 protected:
  void SetUp() override {
    ControlPlaneOptions options;
    options.listen = "127.0.0.1:0";
    options.top_k = 20;
    options.application = "shop";
    options.freshet_version = "0.1.0";
    options.source_topic = "clicks";
    options.take_event = [this](std::string_view body, const TraceContext& trace,
                                const std::function<void(Result<EventReceipt>)>& done) {
      const std::lock_guard lock(mutex_);
      taken_.emplace_back(body);
      traces_.push_back(std::string(trace.traceparent) + "|" + std::string(trace.tracestate));
      if (body == "bad") return done(Error(ErrorCode::kInvalidArgument, "invalid_json: expected an object"));
      if (body == "later") return done(Error(ErrorCode::kUnavailable, "clicks: timed out"));
      if (body == "throws") throw std::runtime_error("out of events");
      done(EventReceipt{3, 4711});
    };
    options.advertise = "here:80";
    options.find_owner = [this](std::string_view user) -> std::optional<UserOwner> {
      const auto found = owners_.find(std::string(user));
      return found == owners_.end() ? std::nullopt : std::optional(found->second);
    };
    options.forget_user = [this](std::string_view user, const TraceContext&,
                                 const std::function<void(Result<EventReceipt>)>& done) {
      const std::lock_guard lock(mutex_);
      forgotten_.emplace_back(user);
      if (user == "later") return done(Error(ErrorCode::kUnavailable, "clicks: timed out"));
      if (user == std::string_view("\0", 1)) return done(Error(ErrorCode::kInvalidArgument, "invalid_user_id: NUL"));
      done(EventReceipt{2, 17});
    };
    auto plane = ControlPlane::Start(options, readiness_, *metrics_, queries_);
    ASSERT_TRUE(plane.ok()) << plane.error().message();
    plane_ = std::move(plane).value();
  }
  void TearDown() override {
    StopWorker();
    queries_.Close(0);
  }

  void StartWorker(std::function<LiveAnswer(const LiveQuery&)> holds) {
    worker_ = std::thread([this, holds = std::move(holds)] {
      while (!stop_) {
        queries_.Answer(0, Each(holds));
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
  }
  void StopWorker() {
    stop_ = true;
    if (worker_.joinable()) worker_.join();
  }
  // Answers any user but those that begin with "no", with what was asked.
  void StartWorkerForAll() {
    StartWorker([](const LiveQuery& query) {
      if (query.user_id.starts_with("no")) return LiveAnswer(std::nullopt);
      if (query.kind == LiveQuery::Kind::kShow) return LiveAnswer(json({{"shown", query.user_id}}).dump());
      if (query.kind == LiveQuery::Kind::kRank)
        return LiveAnswer(json({{"user_id", query.user_id}, {"items", query.items}}).dump());
      return LiveAnswer(json({{"user_id", query.user_id}, {"k", query.k}}).dump());
    });
  }

  HttpAnswer Get(const std::string& target) {
    const auto answer = HttpGet(plane_->port(), target);
    EXPECT_TRUE(answer) << target;
    return answer.value_or(HttpAnswer());
  }
  HttpAnswer Delete(const std::string& target, const std::string& headers = {}) {
    const auto answer =
        HttpExchange(plane_->port(), "DELETE " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
    EXPECT_TRUE(answer) << target;
    return answer.value_or(HttpAnswer());
  }
  HttpAnswer Post(const std::string& target, const std::string& body, const std::string& headers = {}) {
    const std::string length = "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    const auto answer =
        HttpExchange(plane_->port(), "POST " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + length + body);
    EXPECT_TRUE(answer) << target;
    return answer.value_or(HttpAnswer());
  }
  void ExpectProblem(const std::string& target, int status, const std::string& detail) {
    ExpectProblem(Get(target), target, status, detail);
  }
  static void ExpectProblem(const HttpAnswer& answer, const std::string& target, int status,
                            const std::string& detail) {
    EXPECT_EQ(answer.status, status) << target;
    ASSERT_EQ(answer.headers.at("content-type"), "application/problem+json") << target;
    const json problem = json::parse(answer.body);
    EXPECT_EQ(problem.at("type"), "about:blank");
    EXPECT_EQ(problem.at("status"), status);
    EXPECT_FALSE(problem.at("title").get<std::string>().empty());
    EXPECT_THAT(problem.at("detail").get<std::string>(), HasSubstr(detail));
    EXPECT_EQ(answer.headers.contains("retry-after"), status == 503 || status == 504) << target;
  }

  Readiness readiness_;
  LiveQueries queries_{1};
  std::unique_ptr<Metrics> metrics_ = Metrics::Make("0.1.0", {"demo", "9f2c"});
  std::unique_ptr<ControlPlane> plane_;
  std::thread worker_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::vector<std::string> taken_;   // events
  std::vector<std::string> traces_;  // that they came with
  std::map<std::string, UserOwner> owners_;
  std::vector<std::string> forgotten_;  // users
};

TEST_F(ControlPlaneTest, TellsItsHealth) {
  readiness_.NotReady("worker 0", "waits for partitions");
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Get("/healthz?probe=1").status, 200);
}

TEST_F(ControlPlaneTest, IsReadyWhenAllPartsAre) {
  EXPECT_EQ(Get("/readyz").status, 200);
  readiness_.NotReady("worker 0", "waits for partitions");
  readiness_.NotReady("worker 1", "replays");
  ExpectProblem("/readyz", 503, "worker 0: waits for partitions; worker 1: replays");
  EXPECT_THAT(Get("/metrics").body, HasSubstr("\nfreshet_ready 0\n"));
  readiness_.Ready("worker 0");
  ExpectProblem("/readyz", 503, "worker 1: replays");
  readiness_.Ready("worker 1");
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_THAT(Get("/metrics").body, HasSubstr("\nfreshet_ready 1\n"));
}

TEST(Readiness, WhoIsSilentForTooLongIsNotReady) {
  Readiness patient(std::chrono::hours(1));
  patient.SignOf("worker 0").GoesOn();
  EXPECT_EQ(patient.Missing(), "");
  Readiness impatient(std::chrono::milliseconds(0));
  impatient.SignOf("worker 0").GoesOn();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(impatient.Missing(), "worker 0: has waited for a broker or a disk for 0 s");
  impatient.NotReady("worker 0", "stopped");
  EXPECT_EQ(impatient.Missing(), "worker 0: stopped");
}

TEST_F(ControlPlaneTest, ShowsMetrics) {
  metrics_->Worker(0).AddEvents(7);
  Get("/nothing");
  const HttpAnswer answer = Get("/metrics");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(answer.body, HasSubstr("\nfreshet_events_total 7\n"));
  EXPECT_THAT(answer.body, HasSubstr("\nfreshet_http_responses_total{status=\"404\"} 1\n"));
}

TEST_F(ControlPlaneTest, ShowsStatus) {
  json status = json::parse(Get("/v1/status").body);
  EXPECT_EQ(status.at("application"), "shop");
  EXPECT_EQ(status.at("version"), "0.1.0");
  EXPECT_EQ(status.at("model"), json({{"name", "demo"}, {"version", "9f2c"}}));
  EXPECT_EQ(status.at("ready"), true);
  EXPECT_GE(status.at("uptime_seconds").get<double>(), 0);
  readiness_.NotReady("model", "loads");
  status = json::parse(Get("/v1/status").body);
  EXPECT_EQ(status.at("ready"), false);
  EXPECT_EQ(status.at("missing"), "model: loads");
}

TEST_F(ControlPlaneTest, StatusShowsPartitionsAndCaches) {
  json status = json::parse(Get("/v1/status").body);
  EXPECT_EQ(status.at("partitions"), json::array());
  EXPECT_EQ(status.at("lag"), 0);
  for (const int worker : {1, 0}) {
    WorkerMetrics& metrics = metrics_->Worker(worker);
    metrics.SetLag("clicks", worker, 5 + worker);
    metrics.SetLag("clicks", 2 + worker, 100);
    metrics.DropLag("clicks", 2 + worker);
    metrics.SetAssigned(1);
    metrics.SetHotCache(10, 2000, 3, 2, 1);
  }
  metrics_->Worker(1).SetRestoring(2, 0.5);
  metrics_->Worker(1).AddRestored(77);
  status = json::parse(Get("/v1/status").body);
  EXPECT_EQ(status.at("partitions"), json::parse(R"([{"topic":"clicks","partition":0,"lag":5},
                                                     {"topic":"clicks","partition":1,"lag":6}])"));
  EXPECT_EQ(status.at("lag"), 11);
  EXPECT_EQ(status.at("assigned_partitions"), 2);
  EXPECT_EQ(status.at("restoring_partitions"), 2);
  EXPECT_EQ(status.at("restored_records"), 77);
  EXPECT_EQ(status.at("hot_cache"), json::parse(R"({"users":20,"bytes":4000,"hits":6,"misses":4,"evictions":2})"));
}

TEST_F(ControlPlaneTest, AnswersFromLiveState) {
  StartWorkerForAll();
  const HttpAnswer answer = Get("/v1/recommendations/u1");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  EXPECT_EQ(json::parse(answer.body), json({{"user_id", "u1"}, {"k", 20}}));
  EXPECT_EQ(json::parse(Get("/v1/recommendations/u1?k=1").body).at("k"), 1);
  EXPECT_EQ(json::parse(Get("/v1/recommendations/u1?a=b&k=20&c").body).at("k"), 20);
  ExpectProblem("/v1/recommendations/nobody", 404, "no user \"nobody\"");
}

TEST_F(ControlPlaneTest, ShowsAUser) {
  StartWorkerForAll();
  EXPECT_EQ(json::parse(Get("/v1/users/a%2Fb").body), json({{"shown", "a/b"}}));
  ExpectProblem("/v1/users/nobody", 404, "no user \"nobody\"");
  ExpectProblem("/v1/users/%zz", 400, "hexadecimal");
  readiness_.NotReady("worker 0", "waits for partitions");
  ExpectProblem("/v1/users/nobody", 503, "waits for partitions");
}

TEST_F(ControlPlaneTest, RanksItems) {
  StartWorkerForAll();
  const HttpAnswer answer = Post("/v1/rank", R"({"user_id":"u1","items":["i2","i1",7],"more":null})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(json::parse(answer.body), json({{"user_id", "u1"}, {"items", {"i2", "i1", "7"}}}));
  EXPECT_EQ(json::parse(Post("/v1/rank", R"({"user_id":12,"items":["a"]})").body).at("user_id"), "12");
  EXPECT_EQ(json::parse(Post("/v1/rank", R"({"user_id":0.0,"items":[7.0]})").body),
            json({{"user_id", "0.0"}, {"items", {"7.0"}}}));
  ExpectProblem(Post("/v1/rank", R"({"user_id":"nobody","items":["i1"]})"), "/v1/rank", 404, "no user \"nobody\"");
  const HttpAnswer got = Get("/v1/rank");
  EXPECT_EQ(got.status, 405);
  EXPECT_EQ(got.headers.at("allow"), "POST");
}

TEST_F(ControlPlaneTest, RefusesABadRanking) {
  StartWorkerForAll();
  const auto refused = [&](const std::string& body, const std::string& detail) {
    ExpectProblem(Post("/v1/rank", body), body, 400, detail);
  };
  for (const std::string body : {"", "x", "[]", "{", "null", "\xff"}) refused(body, "expected a JSON object");
  refused(std::string(60'000, '['), "expected a JSON object");
  refused(R"({"items":["i1"]})", "user_id: expected");
  for (const std::string id : {"\"\"", "null", "1.5", "[]", "true"}) {
    refused("{\"user_id\":" + id + ",\"items\":[\"i1\"]}", "user_id: expected");
    refused("{\"user_id\":\"u1\",\"items\":[" + id + "]}", "items: expected strings");
  }
  json asked = {{"user_id", "u1"}, {"items", json::array()}};
  refused(asked.dump(), "items: expected 1 to 1000 ids");
  asked["items"] = "i1";
  refused(asked.dump(), "items: expected 1 to 1000 ids");
  asked["items"] = json(1000, "i1");
  EXPECT_EQ(Post("/v1/rank", asked.dump()).status, 200);
  asked["items"].push_back("i1");
  refused(asked.dump(), "items: expected 1 to 1000 ids");
  EXPECT_EQ(Post("/v1/rank", std::string(70'000, ' ')).status, 413);
}

TEST_F(ControlPlaneTest, TakesEvents) {
  const HttpAnswer answer = Post("/v1/events", R"({"user_id":"u1"})");
  EXPECT_EQ(answer.status, 202);
  EXPECT_EQ(json::parse(answer.body), json({{"topic", "clicks"}, {"partition", 3}, {"offset", 4711}}));
  EXPECT_EQ(taken_, std::vector<std::string>{R"({"user_id":"u1"})"});
  ExpectProblem(Post("/v1/events", "bad"), "bad", 400, "invalid_json: expected an object");
  ExpectProblem(Post("/v1/events", "later"), "later", 503, "clicks: timed out");
  ExpectProblem(Post("/v1/events", "throws"), "throws", 500, "could not be handled");
  EXPECT_EQ(Get("/v1/events").headers.at("allow"), "POST");
}

TEST_F(ControlPlaneTest, EventsComeWithTheirTraces) {
  for (const std::string headers :
       {"", "traceparent: p\r\n", "TraceParent: p\r\nTracestate: a=1\r\ntracestate: b=2\r\n",
        "traceparent: p\r\ntraceparent: p\r\ntracestate: a=1\r\n"}) {
    EXPECT_EQ(Post("/v1/events", "{}", headers).status, 202) << headers;
  }
  EXPECT_EQ(traces_, (std::vector<std::string>{"|", "p|", "p|a=1,b=2", "|a=1"}));
}

TEST_F(ControlPlaneTest, TakesDeletions) {
  const HttpAnswer answer = Delete("/v1/users/a%2Fb%20%C3%A9");
  EXPECT_EQ(answer.status, 202);
  EXPECT_EQ(json::parse(answer.body), json({{"topic", "clicks"}, {"partition", 2}, {"offset", 17}}));
  EXPECT_EQ(forgotten_, std::vector<std::string>{"a/b é"});
  ExpectProblem(Delete("/v1/users/later"), "later", 503, "clicks: timed out");
  ExpectProblem(Delete("/v1/users/%00"), "NUL", 400, "invalid_user_id");
  ExpectProblem(Delete("/v1/users/%zz"), "%zz", 400, "hexadecimal");
  EXPECT_EQ(Delete("/v1/users/").status, 404);
  ExpectProblem(Delete("/v1/users/u1", "Origin: http://evil.example\r\n"), "origin", 403, "another site");
  EXPECT_EQ(forgotten_.size(), 3U);
  EXPECT_EQ(Post("/v1/users/u1", "{}").headers.at("allow"), "GET, HEAD, DELETE");
}

TEST_F(ControlPlaneTest, DoesNothingForPagesOfOtherSites) {
  for (const std::string origin : {"http://evil.example", "https://x.evil.example", "null", "http://localhost:81"}) {
    ExpectProblem(Post("/v1/events", "{}", "Origin: " + origin + "\r\n"), origin, 403, "another site");
  }
  EXPECT_TRUE(taken_.empty());
  EXPECT_EQ(Post("/v1/events", "{}", "Origin: http://localhost\r\n").status, 202);
}

TEST_F(ControlPlaneTest, DecodesTheUser) {
  StartWorkerForAll();
  const auto user = [&](const std::string& encoded) {
    return json::parse(Get("/v1/recommendations/" + encoded).body).at("user_id").get<std::string>();
  };
  EXPECT_EQ(user("a%2Fb"), "a/b");
  EXPECT_EQ(user("a+b%20c"), "a+b c");
  EXPECT_EQ(user("%C3%A9t%c3%a9"), "été");
  EXPECT_EQ(user("100%25"), "100%");
  EXPECT_EQ(user("%3Fk=3%23"), "?k=3#");
  for (const std::string bad : {"%", "a%2", "%zz", "%+1", "a%2x"}) {
    ExpectProblem("/v1/recommendations/" + bad, 400, "hexadecimal");
  }
  ExpectProblem("/v1/recommendations/no%ff", 404, "no user");
}

TEST_F(ControlPlaneTest, RefusesABadK) {
  StartWorkerForAll();
  EXPECT_EQ(json::parse(Get("/v1/recommendations/u1?k=10000").body).at("k"), 20) << "as many as there are";
  for (const std::string bad : {"0", "10001", "-1", "x", "", "1x", "1.5", "99999999999999999999"}) {
    ExpectProblem("/v1/recommendations/u1?k=" + bad, 400, "expected 1 to 10000");
  }
  ExpectProblem("/v1/recommendations/u1?k", 400, "expected 1 to 10000");
}

TEST_F(ControlPlaneTest, KnowsOnlyItsPathsAndMethods) {
  for (const std::string path : {"/healthz/", "/v1", "/v1/recommendations", "/v1/recommendations/",
                                 "/v1/recommendations/a/b", "/../etc/passwd", "/v1/users/", "/v1/users/a/b"}) {
    ExpectProblem(path, 404, "nothing is at " + path);
  }
  for (const std::string method : {"POST", "DELETE", "OPTIONS", "BREW"}) {
    const auto answer =
        HttpExchange(plane_->port(), method + " /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 405) << method;
    EXPECT_EQ(answer->headers.at("allow"), "GET, HEAD");
  }
  HttpClient client(plane_->port());
  ASSERT_TRUE(client.Send("HEAD /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_EQ(client.Receive(true)->status, 200);
}

TEST_F(ControlPlaneTest, PassesErrorsOn) {
  StartWorker([](const LiveQuery& query) -> LiveAnswer {
    if (query.user_id == "later") return Error(ErrorCode::kUnavailable, "the store is being moved");
    return Error(ErrorCode::kCorrupt, "/srv/state/partition-3: the state is not readable");
  });
  ExpectProblem("/v1/recommendations/later", 503, "the store is being moved");
  testing::internal::CaptureStdout();
  const HttpAnswer answer = Get("/v1/recommendations/never");
  const std::string log = testing::internal::GetCapturedStdout();
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, HasSubstr("the log says why"));
  EXPECT_THAT(answer.body, Not(HasSubstr("not readable"))) << "what is inside is the operator's";
  EXPECT_THAT(log, HasSubstr("/srv/state/partition-3: the state is not readable"));
}

TEST_F(ControlPlaneTest, AnUnknownUserMayComeWhileNotReady) {
  StartWorkerForAll();
  readiness_.NotReady("worker 0", "waits for partitions");
  ExpectProblem("/v1/recommendations/nobody", 503, "waits for partitions");
  EXPECT_EQ(Get("/v1/recommendations/u1").status, 200);
}

TEST_F(ControlPlaneTest, RefusesWhereTheMailboxIsFull) {
  for (size_t i = 0; i < LiveQueries::kMailboxSize; ++i) ASSERT_TRUE(queries_.Ask({"u", 1}, [](const LiveAnswer&) {}));
  ExpectProblem("/v1/recommendations/u1", 503, "too many questions");
  StartWorkerForAll();
  for (int i = 0; i < 1000 && Get("/v1/recommendations/u1").status != 200; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(Get("/v1/recommendations/u1").status, 200);
}

TEST_F(ControlPlaneTest, DoesNotWaitForAStuckWorker) {
  HttpClient waiting(plane_->port());
  ASSERT_TRUE(waiting.Send("GET /v1/recommendations/u1 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_EQ(Get("/healthz").status, 200) << "others are served meanwhile";
  const auto answer = waiting.Receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 504);
  EXPECT_EQ(answer->headers.at("retry-after"), "1");
}

TEST_F(ControlPlaneTest, StopsWithQuestionsOpenAndTakesNoLateAnswer) {
  HttpClient waiting(plane_->port());
  ASSERT_TRUE(waiting.Send("GET /v1/recommendations/u1 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  plane_.reset();
  EXPECT_TRUE(waiting.WaitForClose());
  int asked = 0;
  queries_.Answer(0, Each([&](const LiveQuery&) {
                    ++asked;
                    return LiveAnswer("late");
                  }));
  EXPECT_EQ(asked, 1);
}

TEST_F(ControlPlaneTest, ManyClientsAtOnce) {
  StartWorkerForAll();
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&, c] {
      HttpClient client(plane_->port());
      for (int i = 0; i < 200; ++i) {
        const std::string user = "u" + std::to_string(c * 1000 + i);
        const auto answer = client.Get("/v1/recommendations/" + user + "?k=3");
        if (!answer || answer->body != "{\"k\":3,\"user_id\":\"" + user + "\"}") ++wrong;
      }
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(ControlPlaneTest, NamesTheKeyOfAnAddressInUse) {
  ControlPlaneOptions options;
  options.listen = "127.0.0.1:" + std::to_string(plane_->port());
  const auto second = ControlPlane::Start(options, readiness_, *metrics_, queries_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message(), "http.listen: " + options.listen + ": address already in use");
}

TEST_F(ControlPlaneTest, SendsThoseWhoAskForAnothersUserThere) {
  using std::chrono::milliseconds;
  metrics_->Worker(0).SetLag("clicks", 7, 0);
  owners_ = {{"no/one é", {5, "there:8080", milliseconds(1234)}},
             {"some", {5, "there:8080", milliseconds(1)}},
             {"nobody", {6, "here:80", milliseconds(1)}},
             {"nosy", {7, "there:8080", milliseconds(1)}}};
  StartWorkerForAll();
  const std::string path = "/v1/users/no%2Fone%20%C3%A9";
  const HttpAnswer sent = Get(path);
  EXPECT_EQ(sent.status, 307);
  EXPECT_EQ(sent.headers.at("location"), "http://there:8080" + path + "?redirected=1");
  EXPECT_EQ(sent.headers.at("freshet-owner-age"), "1234");
  EXPECT_EQ(sent.body, "");
  const std::string target = "/v1/recommendations/no%2Fone%20%C3%A9?k=3&x=%20";
  EXPECT_EQ(Get(target).headers.at("location"), "http://there:8080" + target + "&redirected=1");
  const HttpAnswer ranked = Post("/v1/rank", R"({"user_id":"no/one é","items":["i1"]})");
  EXPECT_EQ(ranked.status, 307);
  EXPECT_EQ(ranked.headers.at("location"), "http://there:8080/v1/rank?redirected=1");
  ExpectProblem(path + "?redirected=1", 503, "from one instance to another");
  EXPECT_EQ(Get("/v1/users/some").status, 200) << "this instance has it, whatever is said";
  ExpectProblem("/v1/users/nobody", 404, "no user");
  ExpectProblem("/v1/users/nosy", 404, "no user");  // the partition is here by now
  ExpectProblem("/v1/users/nowhere", 404, "no user");
}

}  // namespace
}  // namespace freshet
