// yaml-cpp, made to end and to refuse where it would not.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace YAML {
struct Mark;
class Node;
}  // namespace YAML

namespace freshet {

using YamlFailed = std::function<void(const YAML::Mark& mark, const std::string& message)>;

// The documents of a YAML text, or nothing once `failed` was told the line and column (from 0) and what is wrong there.
std::optional<std::vector<YAML::Node>> ParseYaml(const std::string& text, const YamlFailed& failed);

// Whether a quote is never closed in `text`, which ParseYaml() understands: yaml-cpp takes the end of the text for the
// quote's.
bool LeavesQuoteOpen(const std::string& text);

}  // namespace freshet
