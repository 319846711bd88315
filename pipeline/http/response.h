// What is answered.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace freshet::http {

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// An error as application/problem+json (RFC 9457): type, title, status, detail.
Response Problem(int status, std::string_view detail);

// Now, as the header Date has it.
std::string HttpDate();

}  // namespace freshet::http
