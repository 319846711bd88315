// JSON that must mean one thing: a key that comes twice is an error, where most parsers would keep the last.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "core/result.h"

namespace freshet {

// Errors say what is wrong and near which byte.
Result<nlohmann::json> ParseStrictJson(std::string_view text);

}  // namespace freshet
