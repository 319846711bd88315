#include "pipeline/http/address.h"

#include <charconv>

namespace freshet::http {

std::optional<std::pair<std::string, uint16_t>> ParseAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  uint16_t port = 0;
  const char* const end = listen.data() + listen.size();
  const auto parsed = std::from_chars(listen.data() + colon + 1, end, port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  std::string host = listen.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const bool is_v6 = host.find(':') != std::string::npos;
  if (host.empty() || bracketed != is_v6 || host.find_first_of("[]") != std::string::npos) return std::nullopt;
  return std::pair(std::move(host), port);
}

}  // namespace freshet::http
