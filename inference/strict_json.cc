#include "inference/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace freshet {

Result<nlohmann::json> ParseStrictJson(std::string_view text) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> open_objects;
  std::string repeated;
  const auto watch_keys = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key && !open_objects.back().insert(value.get<std::string>()).second) {
      repeated = value.get<std::string>();
    }
    return true;
  };
  try {
    Json json = Json::parse(text, watch_keys);
    if (!repeated.empty()) return Error(ErrorCode::kCorrupt, "key \"" + repeated + "\" comes twice");
    return json;
  } catch (const Json::exception& exception) {
    const std::string_view what = exception.what();  // "[json.exception.….101] parse error at …"
    return Error(ErrorCode::kCorrupt, "not JSON: " + std::string(what.substr(what.find("] ") + 2)));
  }
}

}  // namespace freshet
