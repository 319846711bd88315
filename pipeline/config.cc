// Layers, and the way of a value to its setting. What each setting accepts: config_schema.cc, config_maps.cc.
#include "pipeline/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

#include "pipeline/config_schema.h"
#include "pipeline/config_values.h"
#include "pipeline/config_yaml.h"

namespace freshet {
namespace {

bool IsSetting(std::string_view path) {
  return std::ranges::any_of(ConfigSchema(), [&](const Setting& setting) { return setting.path == path; });
}

bool IsBelow(std::string_view path, std::string_view section) {
  return path.size() > section.size() && path.starts_with(section) && path[section.size()] == '.';
}

bool IsSection(std::string_view path) {
  return std::ranges::any_of(ConfigSchema(), [&](const Setting& setting) { return IsBelow(setting.path, path); });
}

std::string_view LastLevel(std::string_view path) { return path.substr(path.rfind('.') + 1); }

// The known key that `path` most looks like, or the known section where `path` has as many levels as that. The right
// name in the wrong section counts as near, and so does one that is cut short.
std::string_view NearestKey(std::string_view path) {
  std::string_view nearest;
  size_t least = std::string_view::npos;
  const auto consider = [&](std::string_view known, size_t distance) {
    if (distance >= least) return;
    least = distance;
    nearest = known;
  };
  const auto levels = std::ranges::count(path, '.');
  for (const Setting& setting : ConfigSchema()) {
    const size_t whole = EditDistance(path, setting.path);
    const bool near = LastLevel(path) == LastLevel(setting.path) || setting.path.starts_with(path);
    consider(setting.path, near ? std::min<size_t>(whole, 3) : whole);
    for (size_t dot = setting.path.find('.'); dot != std::string_view::npos; dot = setting.path.find('.', dot + 1)) {
      const std::string_view section = setting.path.substr(0, dot);
      if (std::ranges::count(section, '.') == levels) consider(section, EditDistance(path, section));
    }
  }
  return nearest;
}

struct Loading {
  Config config;
  ProblemList problems;
  std::map<std::string_view, std::string> origins;  // by setting: "from …" of the value that holds
};

// Puts the values of one layer into the configuration.
class Layer {
 public:
  Layer(Loading& loading) : loading_(loading) {}

  void Set(const ConfigValue& value) {
    for (const Setting& setting : ConfigSchema()) {
      if (value.path == setting.path) {
        loading_.origins[setting.path] = value.From();
        return setting.set(value, loading_.config, loading_.problems);
      }
      if (setting.set_below && IsBelow(value.path, setting.path)) {
        loading_.origins[setting.path] = value.From();
        const std::string_view rest = std::string_view(value.path).substr(setting.path.size() + 1);
        return setting.set_below(rest, value, loading_.config, loading_.problems);
      }
    }
    if (!IsSection(value.path)) return loading_.problems.Unknown(value, NearestKey(value.path));
    if (value.node.IsNull()) return;
    if (!value.node.IsMap()) return loading_.problems.Expected(value, "a map of settings");
    SetEntries(value);
  }

  // Each entry of the map at `value`; the document itself has an empty path.
  void SetEntries(const ConfigValue& value) {
    for (const auto& entry : value.node) {
      const ConfigValue key = value.At(value.path, entry.first);
      const auto name = ScalarText(key);
      if (!name) {
        loading_.problems.Expected(key, "a text as the name of a setting");
        continue;
      }
      Set(value.At(value.path.empty() ? *name : value.path + "." + *name, entry.second));
    }
  }

 private:
  Loading& loading_;
};

// yaml-cpp keeps every entry of a repeated key and answers with the first; here that is a mistake of the writer.
// `seen`: the paths of the document so far, since "state.directory" may also be written as directory in the map of
// state.
void ReportRepeatedKeys(const ConfigValue& value, std::set<std::string>& seen, ProblemList& problems, int depth = 0) {
  constexpr int kDeepest = 8;  // deeper than any setting; an alias may lead back to its own map
  if (depth > kDeepest || !value.node.IsMap()) return;
  for (const auto& entry : value.node) {
    if (!entry.first.IsScalar()) continue;
    const std::string name = entry.first.Scalar();
    const std::string path = value.path.empty() ? name : value.path + "." + name;
    if (seen.insert(path).second) {
      ReportRepeatedKeys(value.At(path, entry.second), seen, problems, depth + 1);
    } else {
      problems.Add(path + ": given twice, expected once; " + value.At(path, entry.first).From());
    }
  }
}

std::optional<std::string> ReadWhole(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) return std::nullopt;
  std::string content;
  std::array<char, 65536> buffer;
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), file.get()))
    content.append(buffer.data(), size);
  if (std::ferror(file.get())) return std::nullopt;
  return content;
}

void LoadFile(const std::string& path, Loading& loading) {
  ProblemList& problems = loading.problems;
  const auto content = ReadWhole(path);
  if (!content) return problems.Add(path + ": cannot be read: " + std::strerror(errno) + "; from -c");
  const auto documents = ParseYaml(*content, [&](const YAML::Mark& mark, const std::string& message) {
    problems.Add(path + ":" + std::to_string(mark.line + 1) + ": not YAML: " + message + " (column " +
                 std::to_string(mark.column + 1) + ")");
  });
  if (!documents) return;
  if (LeavesQuoteOpen(*content)) return problems.Add(path + ": not YAML: a quote is not closed");
  if (documents->size() > 1) {
    return problems.Add(path + ": " + std::to_string(documents->size()) + " YAML documents: expected one; from -c");
  }
  if (documents->empty() || documents->front().IsNull()) return;
  const ConfigValue document{"", documents->front(), path, true};
  if (!documents->front().IsMap()) {
    return problems.Add(path + ": " + document.Found() + ": expected a map of settings; " + document.From());
  }
  std::set<std::string> seen;
  ReportRepeatedKeys(document, seen, problems);
  Layer(loading).SetEntries(document);
}

// One value from the environment or the command line; `text` is YAML.
void SetText(const std::string& path, const std::string& text, const std::string& source, Loading& loading) {
  const YAML::Node nothing, as_text(text);
  const auto failed = [&](const YAML::Mark&, const std::string& message) {
    loading.problems.Expected({path, as_text, source}, "YAML, perhaps in quotes (" + message + ")");
  };
  const auto documents = ParseYaml(text, failed);
  if (!documents) return;
  if (LeavesQuoteOpen(text)) return failed({}, "a quote is not closed");
  if (documents->size() > 1) return failed({}, "found more than one value");
  const ConfigValue value{path, documents->empty() ? nothing : documents->front(), source};
  std::set<std::string> seen;
  ReportRepeatedKeys(value, seen, loading.problems);
  Layer(loading).Set(value);
}

// "FRESHET_STATE__DIRECTORY" → "state.directory"; nothing for a variable that is not meant for us.
std::optional<std::string> PathOfVariable(std::string name) {
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (!name.starts_with("freshet_") || name.starts_with("freshet_test_")) return std::nullopt;
  std::string path = name.substr(std::strlen("freshet_"));
  for (size_t at = path.find("__"); at != std::string::npos; at = path.find("__", at + 1)) path.replace(at, 2, ".");
  const std::string first = path.substr(0, path.find('.'));
  if (!IsSetting(first) && !IsSection(first)) return std::nullopt;
  return path;
}

// In JSON a bare name is a member of the record itself: "user" means "/user". True if `path` is a JSON pointer then.
bool AsJsonPointer(std::string& path) {
  if (path.find_first_of("/~") == std::string::npos) path.insert(0, 1, '/');
  return IsJsonPointer(path);
}

// What only several settings together tell.
void CheckTogether(Loading& loading) {
  Config& config = loading.config;
  const auto expected = [&](std::string_view key, const std::string& found, std::string_view what) {
    const std::string& origin = loading.origins[key];
    loading.problems.Add(std::string(key) + ": \"" + found + "\": expected " + std::string(what) +
                         (origin.empty() ? "" : "; " + origin));
  };
  if (!loading.origins.contains("snapshots.topic")) {
    config.snapshots.topic = config.application + "-snapshots";
    if (!IsTopicName(config.snapshots.topic)) {
      expected("application", config.application, "at most 239 characters where snapshots.topic is not set");
    }
  }
  std::map<std::string, std::string_view> topics = {{config.source.topic, "source.topic"}};
  for (const auto& [key, topic] :
       {std::pair("sink.topic", &config.sink.topic), std::pair("dead_letters.topic", &config.dead_letters.topic),
        std::pair("snapshots.topic", &config.snapshots.topic)}) {
    const auto [other, fresh] = topics.emplace(*topic, key);
    const bool shared = std::string_view(key) == "dead_letters.topic" && other->second == "sink.topic";
    if (!fresh && !shared) expected(key, *topic, "another topic than " + std::string(other->second));
  }
  EventMapping& mapping = config.source.decoder.mapping;
  if (mapping.event_id.constant && !mapping.event_id.constant->empty()) {
    expected("source.mapping.event_id", *mapping.event_id.constant,
             "a path, or the constant \"\" for none: with one id for all, all but a user's first event are duplicates");
  }
  const RecordFormat format = config.source.decoder.format;
  if (format != RecordFormat::kJson && format != RecordFormat::kProtobuf) return;
  for (const auto& [key, field] :
       {std::pair("source.mapping.user_id", &mapping.user_id), std::pair("source.mapping.item_id", &mapping.item_id),
        std::pair("source.mapping.event_type", &mapping.event_type),
        std::pair("source.mapping.timestamp", &mapping.timestamp),
        std::pair("source.mapping.event_id", &mapping.event_id)}) {
    if (field->constant || AsJsonPointer(field->path)) continue;
    expected(key, field->path,
             format == RecordFormat::kJson ? "a JSON pointer such as /user_id (source.format is json)"
                                           : "names of fields such as /user_id or /visitor/id");
  }
}

// Two fields from one place: whoever writes that copied a line. (An event's type may be told from another field by
// `map`, and its time may be its id.)
void CheckPlaces(Loading& loading) {
  const EventMapping& mapping = loading.config.source.decoder.mapping;
  const auto place = [](const FieldMapping& field) {  // "/user" and "user" are the same member, the same column
    return std::string_view(field.path).substr(field.path.starts_with('/') ? 1 : 0);
  };
  using Field = std::pair<std::string_view, const FieldMapping*>;
  const Field user{"user_id", &mapping.user_id}, item{"item_id", &mapping.item_id}, id{"event_id", &mapping.event_id},
      time{"timestamp", &mapping.timestamp};
  for (const auto& [one, other] : {std::pair(item, user), std::pair(time, user), std::pair(time, item),
                                   std::pair(id, user), std::pair(id, item)}) {
    if (one.second->constant || other.second->constant || place(*one.second) != place(*other.second)) continue;
    const std::string key = "source.mapping." + std::string(one.first);
    const std::string& origin = loading.origins[key];
    loading.problems.Add(key + ": \"" + one.second->path + "\": expected another place than source.mapping." +
                         std::string(other.first) + "'s" + (origin.empty() ? "" : "; " + origin));
  }
}

}  // namespace

std::optional<std::string> ScalarText(const ConfigValue& value) {
  if (value.node.IsNull()) return "";
  if (!value.node.IsScalar()) return std::nullopt;
  return value.node.Scalar();
}

std::string ConfigValue::Found() const {
  if (node.IsNull()) return "nothing";
  if (node.IsMap()) return "a map";
  if (!node.IsScalar()) return "a list";
  constexpr std::string_view kProperties = "kafka.properties.";
  if (path.starts_with(kProperties) && IsSecretProperty(path.substr(kProperties.size()))) return "********";
  const std::string& text = node.Scalar();
  constexpr size_t kLongest = 80;
  if (text.size() <= kLongest) return '"' + text + '"';
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a UTF-8 character
  return '"' + text.substr(0, end) + "…\"";
}

std::string ConfigValue::From() const {
  return "from " + std::string(source) + (has_lines ? ":" + std::to_string(node.Mark().line + 1) : "");
}

void ProblemList::Expected(const ConfigValue& value, std::string_view expected) {
  Add(value.path + ": " + value.Found() + ": expected " + std::string(expected) + "; " + value.From());
}

void ProblemList::Unsupported(const ConfigValue& value, std::string_view expected) {
  Add(value.path + ": " + value.Found() + ": not supported by this version, expected " + std::string(expected) + "; " +
      value.From());
}

void ProblemList::Unknown(const ConfigValue& value, std::string_view nearest) {
  Add(value.path + ": unknown key, the nearest known one is " + std::string(nearest) + "; " + value.From());
}

ConfigResult LoadConfig(const ConfigInput& input) {
  Loading loading;
  if (input.file) LoadFile(*input.file, loading);
  for (const auto& [name, text] : input.environment) {
    if (const auto path = PathOfVariable(name)) SetText(*path, text, name, loading);
  }
  for (const std::string& set : input.sets) {
    const size_t equals = set.find('=');
    if (equals == std::string::npos || equals == 0) {
      loading.problems.Add("--set: \"" + set + "\": expected key.path=value");
      continue;
    }
    SetText(set.substr(0, equals), set.substr(equals + 1), "--set", loading);
  }
  CheckTogether(loading);
  CheckPlaces(loading);
  return {std::move(loading.config), {loading.problems.Take()}};
}

}  // namespace freshet
