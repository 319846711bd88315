#include "pipeline/http/response.h"

#include <boost/beast/http/status.hpp>
#include <ctime>
#include <nlohmann/json.hpp>

namespace freshet::http {

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

Response Problem(int status, std::string_view detail) {
  const auto reason =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(static_cast<unsigned>(status)));
  nlohmann::ordered_json problem;
  problem["type"] = "about:blank";
  problem["title"] = std::string(reason.data(), reason.size());
  problem["status"] = status;
  problem["detail"] = detail;
  return {status, problem.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "application/problem+json"};
}

}  // namespace freshet::http
