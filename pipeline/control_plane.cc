#include "pipeline/control_plane.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pipeline/dashboard/files.h"
#include "pipeline/http/server.h"
#include "pipeline/http/target.h"

namespace freshet {
namespace {

using http::Problem;
using http::Request;
using http::Respond;
using http::Response;

constexpr std::string_view kRecommendations = "/v1/recommendations/";
constexpr std::string_view kUsers = "/v1/users/";
constexpr std::string_view kRedirected = "redirected";  // in the query of a request that another instance sent here
constexpr size_t kMaxRankItems = 1000;
constexpr int kMaxTopK = 10'000;  // of recommend.top_k
constexpr std::string_view kSeeLog = "the user's state could not be read or answered from; the log says why";

Response Json(const nlohmann::ordered_json& body) {
  return {200, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

Response TryAgain(std::string_view reason) {
  Response response = Problem(503, reason);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

// An id in a body: as in events, a string, or a whole number that counts as its digits. 1.0 is one to JSON Schema.
std::optional<std::string> IdOf(const nlohmann::json& value) {
  if (value.is_string() && !value.get_ref<const std::string&>().empty()) return value.get<std::string>();
  if (value.is_number_integer()) return value.dump();
  if (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>()) return value.dump();
  return std::nullopt;
}

// {"user_id":"u1","items":["i1","i2"]}
Result<LiveQuery> ParseRank(std::string_view body) {
  const auto wrong = [](const std::string& what) { return Error(ErrorCode::kInvalidArgument, what); };
  const nlohmann::json asked = nlohmann::json::parse(body, nullptr, false);
  if (!asked.is_object()) return wrong("the body: expected a JSON object with user_id and items");
  LiveQuery query{.user_id = {}, .kind = LiveQuery::Kind::kRank};
  auto user = asked.contains("user_id") ? IdOf(asked["user_id"]) : std::nullopt;
  if (!user) return wrong("user_id: expected a string that is not empty");
  query.user_id = *std::move(user);
  const std::string expected = "items: expected 1 to " + std::to_string(kMaxRankItems) + " ids";
  if (!asked.contains("items") || !asked["items"].is_array()) return wrong(expected);
  if (asked["items"].empty() || asked["items"].size() > kMaxRankItems) return wrong(expected);
  for (const nlohmann::json& item : asked["items"]) {
    auto id = IdOf(item);
    if (!id) return wrong("items: expected strings that are not empty");
    query.items.push_back(*std::move(id));
  }
  return query;
}

class ControlPlaneImpl : public ControlPlane {
 public:
  ControlPlaneImpl(ControlPlaneOptions options, const Readiness& readiness, Metrics& metrics, LiveQueries& queries)
      : options_(std::move(options)), readiness_(readiness), metrics_(metrics), queries_(queries) {}

  Status Serve() {
    http::ServerOptions options{options_};
    options.on_response = [this](int status) { metrics_.AddHttpResponse(status); };
    auto server = http::Server::Start(
        options, [this](const Request& request, Respond respond) { Handle(request, std::move(respond)); });
    if (!server.ok()) return server.error();
    server_ = std::move(server).value();
    return {};
  }

  uint16_t port() const override { return server_->port(); }

 private:
  using Answer = void (ControlPlaneImpl::*)(const Request&, Respond);
  struct Route {
    std::string_view method;
    std::string_view path;  // one that ends with '/' wants one more segment
    Answer answer;
  };
  static constexpr size_t kRoutes = 11;
  static std::span<const Route, kRoutes> Routes() {
    using This = ControlPlaneImpl;
    static constexpr Route routes[kRoutes] = {
        {"GET", "/healthz", &This::Health},          {"GET", "/readyz", &This::Ready},
        {"GET", "/metrics", &This::ShowMetrics},     {"GET", "/v1/status", &This::ShowStatus},
        {"GET", kRecommendations, &This::Recommend}, {"GET", kUsers, &This::ShowUser},
        {"DELETE", kUsers, &This::ForgetUser},       {"POST", "/v1/rank", &This::Rank},
        {"POST", "/v1/events", &This::AddEvent},     {"GET", "/v1/dead-letters", &This::ShowDeadLetters},
        {"GET", "/v1/items", &This::ShowItems}};
    return routes;
  }

  static bool Matches(const Route& route, std::string_view path) {
    if (!route.path.ends_with('/')) return path == route.path;
    return path.size() > route.path.size() && path.starts_with(route.path) &&
           path.find('/', route.path.size()) == std::string_view::npos;
  }

  // What changes something is not done for a page of another site, which could otherwise use a reader's browser to
  // reach an address that only that machine can. RFC 6454; programs send no Origin.
  static bool IsCrossSite(const Request& request) {
    if (request.method == "GET" || request.origin.empty()) return false;
    const size_t scheme = request.origin.find("://");
    return scheme == std::string::npos || request.origin.substr(scheme + 3) != request.host;
  }

  void Handle(const Request& request, Respond respond) {
    if (IsCrossSite(request)) return respond(Problem(403, "not for pages of another site"));
    if (IsDashboardFile(request.path)) return respond(ShowDashboard(request));
    std::string allowed;
    for (const Route& route : Routes()) {
      if (!Matches(route, request.path)) continue;
      if (request.method == route.method) return (this->*route.answer)(request, std::move(respond));
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method == "GET" ? "GET, HEAD" : route.method);
    }
    if (allowed.empty()) return respond(Problem(404, "nothing is at " + request.path));
    respond(NotAllowed(request, allowed));
  }

  static Response NotAllowed(const Request& request, const std::string& allowed) {
    Response response = Problem(405, request.method + " is not for " + request.path);
    response.headers.emplace_back("Allow", allowed);
    return response;
  }

  static Response ShowDashboard(const Request& request) {
    return request.method == "GET" ? DashboardFile(request) : NotAllowed(request, "GET, HEAD");
  }

  void Health(const Request&, Respond respond) { respond(Json({{"status", "ok"}})); }

  void Ready(const Request&, Respond respond) {
    const std::string missing = readiness_.Missing();
    respond(missing.empty() ? Json({{"status", "ready"}}) : TryAgain(missing));
  }

  void ShowMetrics(const Request&, Respond respond) {
    metrics_.SetReady(readiness_.Missing().empty());
    respond({200, metrics_.Render(), "text/plain; version=0.0.4; charset=utf-8"});
  }

  void ShowStatus(const Request&, Respond respond) {
    const std::string missing = readiness_.Missing();
    const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_;
    nlohmann::ordered_json status;
    status["application"] = options_.application;
    status["version"] = options_.freshet_version;
    const ModelLabels model = metrics_.Model();
    status["model"] = {{"name", model.name}, {"version", model.version}};
    status["ready"] = missing.empty();
    if (!missing.empty()) status["missing"] = missing;
    status["uptime_seconds"] = uptime.count();
    status["top_k"] = options_.top_k;
    status["embedded_broker"] = options_.embedded_broker;
    AddWorkers(status);
    respond(Json(status));
  }

  void AddWorkers(nlohmann::ordered_json& status) const {
    const WorkersStatus workers = metrics_.Workers();
    nlohmann::ordered_json lags = nlohmann::ordered_json::array();
    int64_t lag = 0;
    for (const WorkersStatus::Lag& partition : workers.lags) {
      lags.push_back({{"topic", partition.topic}, {"partition", partition.partition}, {"lag", partition.records}});
      lag += partition.records;
    }
    status["assigned_partitions"] = workers.assigned;
    status["restoring_partitions"] = workers.restoring;
    status["restored_records"] = workers.restored_records;
    status["lag"] = lag;
    status["partitions"] = std::move(lags);
    status["hot_cache"] = {{"users", workers.hot_users},
                           {"bytes", workers.hot_bytes},
                           {"hits", workers.hot_hits},
                           {"misses", workers.hot_misses},
                           {"evictions", workers.hot_evictions}};
  }

  void ShowDeadLetters(const Request&, Respond respond) {
    nlohmann::ordered_json letters = nlohmann::ordered_json::array();
    if (options_.dead_letters != nullptr) {
      for (DeadLetterSample& sample : options_.dead_letters->Newest()) {
        letters.push_back({{"reason", std::move(sample.reason)},
                           {"message", std::move(sample.message)},
                           {"topic", std::move(sample.topic)},
                           {"partition", Raw(sample.partition)},
                           {"offset", Raw(sample.offset)},
                           {"read_at", sample.read_at_ms},
                           {"key", std::move(sample.key)},
                           {"value", std::move(sample.value)},
                           {"cut", sample.cut}});
      }
    }
    respond(Json({{"dead_letters", std::move(letters)}}));
  }

  // ?ids=i1,i2: percent-encoded each, so that an id may have a comma.
  void ShowItems(const Request& request, Respond respond) {
    nlohmann::ordered_json items = nlohmann::ordered_json::array();
    const auto ids = http::Parameter(request.query, "ids");
    if (!ids) return respond(Problem(400, "ids: expected item ids with commas between them"));
    for (std::string_view rest = *ids; !rest.empty();) {
      const std::string_view encoded = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(rest.size(), encoded.size() + 1));
      const auto id = http::PercentDecode(encoded);
      if (!id) return respond(Problem(400, "ids: a % without two hexadecimal digits"));
      const ItemTitle* const item = options_.items == nullptr ? nullptr : options_.items->Find(*id);
      if (item == nullptr) continue;
      nlohmann::ordered_json& shown = items.emplace_back(nlohmann::ordered_json{{"item_id", *id}});
      if (!item->title.empty()) shown["title"] = item->title;
      if (!item->category.empty()) shown["category"] = item->category;
    }
    respond(Json({{"items", std::move(items)}}));
  }

  void Recommend(const Request& request, Respond respond) {
    int k = options_.top_k;
    if (const auto text = http::Parameter(request.query, "k")) {
      const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), k);
      if (error != std::errc() || end != text->data() + text->size() || k < 1 || k > kMaxTopK) {
        const std::string found(*text);
        return respond(Problem(400, "k: \"" + found + "\": expected 1 to " + std::to_string(kMaxTopK)));
      }
    }
    const int items = std::min(k, options_.top_k);  // who asks need not know the configuration
    AskOfPath(request, kRecommendations, {.user_id = {}, .k = items}, std::move(respond));
  }

  void ShowUser(const Request& request, Respond respond) {
    AskOfPath(request, kUsers, {.user_id = {}, .kind = LiveQuery::Kind::kShow}, std::move(respond));
  }

  void Rank(const Request& request, Respond respond) {
    auto query = ParseRank(request.body);
    if (!query.ok()) return respond(Problem(400, query.error().message()));
    Ask(request, std::move(query).value(), respond);
  }

  void AddEvent(const Request& request, Respond respond) {
    if (!options_.take_event) return respond(Problem(404, "this instance takes no events"));
    options_.take_event(request.body, {request.traceparent, request.tracestate}, Acknowledge(std::move(respond)));
  }

  // Nobody is asked whether the user is known: what is written is met by whoever holds the user, now or later.
  void ForgetUser(const Request& request, Respond respond) {
    if (!options_.forget_user) return respond(Problem(404, "this instance takes no deletions"));
    const auto user = http::PercentDecode(std::string_view(request.path).substr(kUsers.size()));
    if (!user) return respond(Problem(400, "the user has a % without two hexadecimal digits"));
    options_.forget_user(*user, {request.traceparent, request.tracestate}, Acknowledge(std::move(respond)));
  }

  // 202 with the record's place, or why there is none.
  std::function<void(Result<EventReceipt>)> Acknowledge(Respond respond) const {
    return [respond = std::move(respond), topic = options_.source_topic](const Result<EventReceipt>& receipt) {
      if (receipt.ok()) {
        Response response = Json({{"topic", topic}, {"partition", receipt->partition}, {"offset", receipt->offset}});
        response.status = 202;
        return respond(std::move(response));
      }
      const Error& error = receipt.error();
      respond(error.retriable() ? TryAgain(error.message()) : Problem(400, error.message()));
    };
  }

  // Asks about the user whose id follows `prefix`.
  void AskOfPath(const Request& request, std::string_view prefix, LiveQuery query, Respond respond) {
    auto user = http::PercentDecode(std::string_view(request.path).substr(prefix.size()));
    if (!user) return respond(Problem(400, "the user has a % without two hexadecimal digits"));
    query.user_id = *std::move(user);
    Ask(request, std::move(query), respond);
  }

  // A worker's thread runs what is passed on, maybe after the control plane is gone: it owns all that it touches.
  void Ask(const Request& request, LiveQuery query, const Respond& respond) {
    const std::string user = query.user_id;
    const auto answered = [respond, user, not_here = NotHere(request, user)](LiveAnswer answer) {
      respond(ToResponse(std::move(answer), user, not_here));
    };
    if (!queries_.Ask(std::move(query), answered)) respond(TryAgain("too many questions wait already"));
  }

  // What is known, when the question comes, in case this instance does not have the user.
  struct Elsewhere {
    std::string missing;   // until it is ready, an unknown user may be one whose partition is still to come
    std::string location;  // where to ask; empty: here, or not known
    std::string age_ms;    // of that
    bool moving = false;   // there, too, it was said to be elsewhere
  };
  Elsewhere NotHere(const Request& request, const std::string& user) const {
    Elsewhere elsewhere{.missing = readiness_.Missing()};
    const auto owner = options_.find_owner ? options_.find_owner(user) : std::nullopt;
    if (!owner || owner->address == options_.advertise || IsAssigned(owner->partition)) return elsewhere;
    // One that was sent here is not sent on: two instances may each believe the other to have the user.
    elsewhere.moving = http::Parameter(request.query, kRedirected).has_value();
    if (elsewhere.moving) return elsewhere;
    const std::string query = request.query.empty() ? "" : request.query + "&";
    elsewhere.location = (options_.tls_certificate.empty() ? "http://" : "https://") + owner->address + request.path +
                         "?" + query + std::string(kRedirected) + "=1";
    elsewhere.age_ms = std::to_string(owner->age.count());
    return elsewhere;
  }

  bool IsAssigned(int32_t partition) const {
    const std::vector<WorkersStatus::Lag> lags = metrics_.Workers().lags;
    return std::any_of(lags.begin(), lags.end(), [&](const auto& lag) { return lag.partition == partition; });
  }

  static Response ToResponse(LiveAnswer answer, const std::string& user, const Elsewhere& not_here) {
    if (!answer.ok()) {
      if (answer.error().retriable()) return TryAgain(answer.error().message());
      spdlog::error("http: user \"{}\": {}", user, answer.error().message());
      return Problem(500, kSeeLog);
    }
    if (answer.value()) return {200, *std::move(answer).value()};
    if (not_here.moving) return TryAgain("user \"" + user + "\" is on the way from one instance to another");
    if (!not_here.location.empty()) {
      return {307, "", "text/plain", {{"Location", not_here.location}, {"Freshet-Owner-Age", not_here.age_ms}}};
    }
    return not_here.missing.empty() ? Problem(404, "no user \"" + user + "\" here") : TryAgain(not_here.missing);
  }

  const ControlPlaneOptions options_;
  const Readiness& readiness_;
  Metrics& metrics_;
  LiveQueries& queries_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::unique_ptr<http::Server> server_;  // its handler uses the others: first to go
};

}  // namespace

Result<std::unique_ptr<ControlPlane>> ControlPlane::Start(const ControlPlaneOptions& options,
                                                          const Readiness& readiness, Metrics& metrics,
                                                          LiveQueries& queries) {
  auto plane = std::make_unique<ControlPlaneImpl>(options, readiness, metrics, queries);
  RETURN_IF_ERROR(plane->Serve());
  return std::unique_ptr<ControlPlane>(std::move(plane));
}

}  // namespace freshet
