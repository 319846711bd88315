#include "pipeline/control_plane.h"

#include <spdlog/spdlog.h>

#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "pipeline/http/server.h"

namespace freshet {
namespace {

using http::Problem;
using http::Request;
using http::Respond;
using http::Response;

constexpr std::string_view kRecommendations = "/v1/recommendations/";
constexpr std::string_view kSeeLog = "the user's state could not be read or answered from; the log says why";

int HexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// RFC 3986; nothing where a '%' is not followed by two hexadecimal digits.
std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

// The first value of `name` in a query string.
std::optional<std::string_view> Parameter(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) return pair.substr(std::min(pair.size(), equals + 1));
  }
  return std::nullopt;
}

Response Json(const nlohmann::ordered_json& body) {
  return {200, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

Response TryAgain(std::string_view reason) {
  Response response = Problem(503, reason);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

class ControlPlaneImpl : public ControlPlane {
 public:
  ControlPlaneImpl(ControlPlaneOptions options, const Readiness& readiness, Metrics& metrics, LiveQueries& queries)
      : options_(std::move(options)), readiness_(readiness), metrics_(metrics), queries_(queries) {}

  Status Serve() {
    http::ServerOptions options;
    options.listen = options_.listen;
    options.on_response = [this](int status) { metrics_.AddHttpResponse(status); };
    auto server = http::Server::Start(
        options, [this](const Request& request, Respond respond) { Handle(request, std::move(respond)); });
    if (!server.ok()) return server.error().At("http.listen");
    server_ = std::move(server).value();
    return {};
  }

  uint16_t port() const override { return server_->port(); }

 private:
  void Handle(const Request& request, Respond respond) {
    if (const auto route = Route(request.path)) {
      if (request.method == "GET") return (this->*route)(request, std::move(respond));
      Response response = Problem(405, request.method + " is not for " + request.path);
      response.headers.emplace_back("Allow", "GET, HEAD");
      return respond(std::move(response));
    }
    respond(Problem(404, "nothing is at " + request.path));
  }

  using Answer = void (ControlPlaneImpl::*)(const Request&, Respond);
  static Answer Route(std::string_view path) {
    if (path == "/healthz") return &ControlPlaneImpl::Health;
    if (path == "/readyz") return &ControlPlaneImpl::Ready;
    if (path == "/metrics") return &ControlPlaneImpl::ShowMetrics;
    if (path == "/v1/status") return &ControlPlaneImpl::ShowStatus;
    if (path.starts_with(kRecommendations) && path.size() > kRecommendations.size() &&
        path.find('/', kRecommendations.size()) == std::string_view::npos) {
      return &ControlPlaneImpl::Recommend;
    }
    return nullptr;
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
    respond(Json(status));
  }

  void Recommend(const Request& request, Respond respond) {
    auto user = PercentDecode(std::string_view(request.path).substr(kRecommendations.size()));
    if (!user) return respond(Problem(400, "the user has a % without two hexadecimal digits"));
    int k = options_.top_k;
    if (const auto text = Parameter(request.query, "k")) {
      const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), k);
      if (error != std::errc() || end != text->data() + text->size() || k < 1 || k > options_.top_k) {
        const std::string found(*text);
        return respond(Problem(400, "k: \"" + found + "\": expected 1 to " + std::to_string(options_.top_k)));
      }
    }
    // A worker's thread runs this, maybe after the control plane is gone: it owns all that it touches.
    const bool asked =
        queries_.Ask({*user, k}, [respond, user = *user, missing = readiness_.Missing()](LiveAnswer answer) {
          respond(ToResponse(std::move(answer), user, missing));
        });
    if (!asked) respond(TryAgain("too many questions wait already"));
  }

  // `missing`: what this instance was waiting for when the question came; until it is ready, an unknown user may be one
  // whose partition is still to come.
  static Response ToResponse(LiveAnswer answer, const std::string& user, const std::string& missing) {
    if (!answer.ok()) {
      if (answer.error().retriable()) return TryAgain(answer.error().message());
      spdlog::error("GET {}…: {}", kRecommendations, answer.error().message());
      return Problem(500, kSeeLog);
    }
    if (answer.value()) return {200, *std::move(answer).value()};
    return missing.empty() ? Problem(404, "no user \"" + user + "\" here") : TryAgain(missing);
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
