// The table of every configuration key. It drives parsing, printing, KnownConfigKeys() and the check of
// docs/configuration.md; the defaults are those of a fresh Config.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/config.h"

namespace YAML {
class Emitter;
class Node;
}  // namespace YAML

namespace freshet {

// A value on its way into the configuration, with what a message about it needs.
struct ConfigValue {
  std::string path;         // full key path
  const YAML::Node& node;   // outlives the ConfigValue
  std::string_view source;  // a file's path, "FRESHET_…" or "--set"
  bool has_lines = false;   // the source is a file

  ConfigValue At(std::string child_path, const YAML::Node& child) const {
    return {std::move(child_path), child, source, has_lines};
  }
  std::string Found() const;  // "\"1GB\"", "nothing", "a map", "a list"; a secret is masked
  std::string From() const;   // "from --set", "from freshet.yaml:12"
};

// Collects what is wrong, a line each: "key: found: expected …; from where".
class ProblemList {
 public:
  void Expected(const ConfigValue& value, std::string_view expected);
  void Unsupported(const ConfigValue& value, std::string_view expected);
  void Unknown(const ConfigValue& value, std::string_view nearest);
  // `error` names the key, what was found and what was expected.
  void Refused(const ConfigValue& value, const Error& error) { Add(error.message() + "; " + value.From()); }
  void Add(std::string line) { lines_.push_back(std::move(line)); }

  std::vector<std::string> Take() { return std::move(lines_); }

 private:
  std::vector<std::string> lines_;
};

struct Setting {
  std::string_view path;
  std::string expected;  // what a value must be, as in "expected a whole number from 1 to 10000"
  std::string_view description;
  std::function<void(const ConfigValue& value, Config& config, ProblemList& problems)> set;
  std::function<void(YAML::Emitter& out, const Config& config)> print;
  // For settings with keys of their own below them: sets what is at path + "." + `rest`. Empty for the others.
  std::function<void(std::string_view rest, const ConfigValue& value, Config& config, ProblemList& problems)>
      set_below = nullptr;
};

// In the order of the documentation.
std::span<const Setting> ConfigSchema();

// Text of a scalar. Nothing where `value` is a map or a list; "" where it is empty.
std::optional<std::string> ScalarText(const ConfigValue& value);

// Settings that are maps (config_maps.cc): kafka.properties, and where a field of an event is.
Setting PropertiesSetting();
Setting FieldSetting(std::string_view path, std::string_view description, FieldMapping EventMapping::*field);

// A setting's value as one line of YAML.
std::string PrintSetting(const Setting& setting, const Config& config);

}  // namespace freshet
