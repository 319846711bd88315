// What is answered.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/http/event_stream.h"

namespace freshet::http {

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::shared_ptr<EventStream> stream = {};  // in place of a body
};

// An error as application/problem+json (RFC 9457): type, title, status, detail.
Response Problem(int status, std::string_view detail);

// Now, as the header Date has it.
std::string HttpDate();

}  // namespace freshet::http
