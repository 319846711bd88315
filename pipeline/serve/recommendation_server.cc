#include "pipeline/serve/recommendation_server.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "pipeline/http/server.h"
#include "pipeline/http/target.h"

namespace freshet {
namespace {

using http::Problem;
using http::Request;
using http::Respond;
using http::Response;
using Json = nlohmann::ordered_json;

constexpr std::string_view kRecommendations = "/v1/recommendations/";
constexpr std::string_view kStream = "/stream";
constexpr size_t kConnections = 256;  // beside those of streams

Response JsonResponse(const Json& body) { return {200, body.dump()}; }

Response TryAgain(const std::string& reason) {
  Response response = Problem(503, reason);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

// Nothing where the query has a k that is no number above 0; the largest where it has none.
std::optional<size_t> AskedItems(std::string_view query) {
  const auto text = http::Parameter(query, "k");
  if (!text) return std::string::npos;
  size_t k = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), k);
  return error == std::errc() && end == text->data() + text->size() && k > 0 ? std::optional(k) : std::nullopt;
}

class RecommendationServerImpl final : public RecommendationServer {
 public:
  RecommendationServerImpl(RecommendationServerOptions options, const RecommendationStore& store,
                           RecommendationStreams& streams, const TopicFollower& follower, const Readiness& readiness)
      : options_(std::move(options)), store_(store), streams_(streams), follower_(follower), readiness_(readiness) {
    const auto gauge = [this](const char* name, const char* help) -> prometheus::Gauge& {
      return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({});
    };
    ready_ = &gauge("freshet_ready", "1 once everything that the topic held at the start is served.");
    lag_ = &gauge("freshet_serve_lag_records", "Records of the topic that are not taken in yet.");
    table_bytes_ = &gauge("freshet_rocksdb_table_bytes", "Records on disk, in tables.");
    const auto counter = [this](const char* name, const char* help) -> prometheus::Counter& {
      return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add({});
    };
    records_ = &counter("freshet_serve_records_total", "Records taken in since the start.");
    bad_records_ = &counter("freshet_serve_bad_records_total", "Records that are no recommendation, left out.");
    open_streams_ = &gauge("freshet_serve_streams", "Clients that are sent each new recommendation of a user.");
  }

  Status Serve() {
    http::ServerOptions options{options_};
    options.max_streams = options_.max_streams;
    options.max_connections = kConnections + options_.max_streams;
    options.on_response = [this](int status) { responses_.Add({{"status", std::to_string(status)}}).Increment(); };
    auto server = http::Server::Start(options, [this](const Request& request, const Respond& respond) {
      respond(request.method == "GET" ? Answer(request) : NotAllowed(request));
    });
    if (!server.ok()) return server.error();
    server_ = std::move(server).value();
    return {};
  }

  uint16_t port() const override { return server_->port(); }

 private:
  static Response NotAllowed(const Request& request) {
    Response response = Problem(405, request.method + " is not for " + request.path);
    response.headers.emplace_back("Allow", "GET, HEAD");
    return response;
  }

  Response Answer(const Request& request) {
    if (request.path.starts_with(kRecommendations)) return Recommend(request);
    if (request.path == "/healthz") return JsonResponse({{"status", "ok"}});
    if (request.path == "/readyz") {
      const std::string missing = readiness_.Missing();
      return missing.empty() ? JsonResponse({{"status", "ready"}}) : TryAgain(missing);
    }
    if (request.path == "/metrics") return ShowMetrics();
    if (request.path == "/v1/status") return ShowStatus();
    return Problem(404, "nothing is at " + request.path);
  }

  Response Recommend(const Request& request) {
    std::string_view encoded = std::string_view(request.path).substr(kRecommendations.size());
    const bool stream = encoded.ends_with(kStream);
    if (stream) encoded.remove_suffix(kStream.size());
    const auto user = http::PercentDecode(encoded);
    if (!user) return Problem(400, "the user has a % without two hexadecimal digits");
    const std::optional<size_t> k = AskedItems(request.query);
    if (!k) return Problem(400, "k: expected a whole number above 0");
    if (stream && user->empty()) return Problem(404, "nothing is at " + request.path);
    return stream ? OpenStream(*user, *k, request.last_event_id) : LookUp(*user, *k, request.if_none_match);
  }

  Response OpenStream(const std::string& user, size_t k, const std::string& last_event_id) {
    Response response;
    response.content_type = "text/event-stream";
    response.headers.emplace_back("X-Accel-Buffering", "no");  // nginx would keep events back
    // Until the store has caught up, a user who is not there need not have been removed.
    response.stream = streams_.Open(user, k, readiness_.Missing().empty() ? last_event_id : "");
    return response;
  }

  Response LookUp(const std::string& user, size_t k, const std::string& known) {
    const auto found = store_.Find(user);
    if (!found.ok()) return Problem(500, found.error().message());
    if (!*found) {
      const std::string missing = readiness_.Missing();
      return missing.empty() ? Problem(404, "nothing was recommended to user \"" + user + "\"") : TryAgain(missing);
    }
    const StoredRecommendation& stored = **found;
    const std::string tag = '"' + stored.id + '"';
    Response response;
    if (known == tag) {
      response.status = 304;
    } else {
      response.body = WithBest(stored.record, k);
    }
    response.headers = {{"ETag", tag}, {"Cache-Control", "no-cache"}};
    return response;
  }

  Response ShowMetrics() {
    ready_->Set(readiness_.Missing().empty() ? 1 : 0);
    lag_->Set(static_cast<double>(follower_.lag()));
    records_->Increment(static_cast<double>(follower_.records()) - records_->Value());
    bad_records_->Increment(static_cast<double>(follower_.bad_records()) - bad_records_->Value());
    table_bytes_->Set(static_cast<double>(store_.table_bytes()));
    open_streams_->Set(static_cast<double>(streams_.open()));
    return {200, prometheus::TextSerializer().Serialize(registry_.Collect()),
            "text/plain; version=0.0.4; charset=utf-8"};
  }

  Response ShowStatus() {
    const std::string missing = readiness_.Missing();
    Json status = {{"topic", options_.topic}, {"version", options_.freshet_version}, {"ready", missing.empty()}};
    if (!missing.empty()) status["missing"] = missing;
    status["records"] = follower_.records();
    status["bad_records"] = follower_.bad_records();
    status["streams"] = streams_.open();
    status["lag"] = follower_.lag();
    return JsonResponse(status);
  }

  const RecommendationServerOptions options_;
  const RecommendationStore& store_;
  RecommendationStreams& streams_;
  const TopicFollower& follower_;
  const Readiness& readiness_;
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& responses_ = prometheus::BuildCounter()
                                                            .Name("freshet_http_responses_total")
                                                            .Help("Answers by HTTP status.")
                                                            .Register(registry_);
  prometheus::Gauge* ready_;
  prometheus::Gauge* lag_;
  prometheus::Counter* records_;
  prometheus::Counter* bad_records_;
  prometheus::Gauge* open_streams_;
  prometheus::Gauge* table_bytes_;
  std::unique_ptr<http::Server> server_;  // the last: its thread uses the others
};

}  // namespace

Result<std::unique_ptr<RecommendationServer>> RecommendationServer::Start(const RecommendationServerOptions& options,
                                                                          const RecommendationStore& store,
                                                                          RecommendationStreams& streams,
                                                                          const TopicFollower& follower,
                                                                          const Readiness& readiness) {
  auto server = std::make_unique<RecommendationServerImpl>(options, store, streams, follower, readiness);
  RETURN_IF_ERROR(server->Serve());
  return std::unique_ptr<RecommendationServer>(std::move(server));
}

}  // namespace freshet
