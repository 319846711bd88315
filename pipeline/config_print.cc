#include <yaml-cpp/yaml.h>

#include "pipeline/config_schema.h"

namespace freshet {
namespace {

std::vector<std::string_view> Levels(std::string_view path) {
  std::vector<std::string_view> levels;
  while (true) {
    const size_t dot = path.find('.');
    levels.push_back(path.substr(0, dot));
    if (dot == std::string_view::npos) return levels;
    path.remove_prefix(dot + 1);
  }
}

}  // namespace

std::string PrintConfig(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  std::vector<std::string_view> open;  // the sections around the setting
  for (const Setting& setting : ConfigSchema()) {
    const auto levels = Levels(setting.path);
    size_t common = 0;
    while (common < open.size() && common + 1 < levels.size() && open[common] == levels[common]) ++common;
    for (; open.size() > common; open.pop_back()) out << YAML::EndMap;
    for (; open.size() + 1 < levels.size(); open.push_back(levels[open.size()])) {
      out << YAML::Key << std::string(levels[open.size()]) << YAML::Value << YAML::BeginMap;
    }
    out << YAML::Key << std::string(levels.back()) << YAML::Value;
    setting.print(out, config);
  }
  for (size_t i = 0; i < open.size(); ++i) out << YAML::EndMap;
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string PrintSetting(const Setting& setting, const Config& config) {
  YAML::Emitter out;
  setting.print(out, config);
  return out.c_str();
}

std::vector<std::string> KnownConfigKeys() {
  std::vector<std::string> keys;
  for (const Setting& setting : ConfigSchema()) keys.emplace_back(setting.path);
  return keys;
}

}  // namespace freshet
