// Addresses to listen on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace freshet::http {

// "host:port" or "[v6 address]:port" in two; nothing where it is neither.
std::optional<std::pair<std::string, uint16_t>> ParseAddress(const std::string& listen);

}  // namespace freshet::http
