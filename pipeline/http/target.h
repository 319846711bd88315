// Parts of a request's target.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace freshet::http {

// RFC 3986; nothing where a '%' is not followed by two hexadecimal digits.
std::optional<std::string> PercentDecode(std::string_view text);

// The first value of `name` in a query string, still percent-encoded.
std::optional<std::string_view> Parameter(std::string_view query, std::string_view name);

}  // namespace freshet::http
