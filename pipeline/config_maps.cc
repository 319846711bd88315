// The settings that are maps: kafka.properties, and where each field of an event is.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>

#include "pipeline/config_schema.h"
#include "pipeline/config_values.h"

namespace freshet {
namespace {

constexpr std::string_view kFieldExpected = "a JSON pointer, a column, or a map of path, constant, map and unit";
constexpr std::array<std::pair<std::string_view, TimeUnit>, 4> kTimeUnits = {{{"s", TimeUnit::kSeconds},
                                                                              {"ms", TimeUnit::kMilliseconds},
                                                                              {"us", TimeUnit::kMicroseconds},
                                                                              {"iso8601", TimeUnit::kIso8601}}};

// Calls `visit(name, value)` for each entry of the map at `value`.
template <typename Visit>
void ForEachEntry(const ConfigValue& value, Visit visit) {
  for (const auto& entry : value.node) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    visit(name, value.At(value.path + "." + name, entry.second));
  }
}

void SetReplacements(const ConfigValue& value, FieldMapping& field, ProblemList& problems) {
  if (!value.node.IsMap()) return problems.Expected(value, "a map such as {pv: view, buy: purchase}");
  field.values.clear();
  ForEachEntry(value, [&](const std::string& name, const ConfigValue& replacement) {
    if (auto text = ScalarText(replacement)) {
      field.values[name] = *std::move(text);
    } else {
      problems.Expected(replacement, "a text");
    }
  });
}

void SetUnit(const ConfigValue& value, EventMapping& mapping, ProblemList& problems) {
  const auto text = ScalarText(value);
  for (const auto& [name, unit] : kTimeUnits) {
    if (text == name) {
      mapping.timestamp_unit = unit;
      return;
    }
  }
  problems.Expected(value, "s, ms, us or iso8601");
}

std::string NearestPart(std::string_view part, bool has_unit) {
  std::vector<std::string_view> parts = {"path", "constant", "map"};
  if (has_unit) parts.push_back("unit");
  return std::string(*std::ranges::min_element(parts, {}, [&](auto known) { return EditDistance(part, known); }));
}

// Sets one part of a field: path, constant, map, an entry of the map, and for the timestamp its unit.
void SetPart(std::string_view part, const ConfigValue& value, EventMapping& mapping, FieldMapping EventMapping::*member,
             ProblemList& problems) {
  FieldMapping& field = mapping.*member;
  if (part == "map") return SetReplacements(value, field, problems);
  if (part == "unit" && member == &EventMapping::timestamp) return SetUnit(value, mapping, problems);
  const auto text = ScalarText(value);
  if (part == "path") {
    if (!text || text->empty()) return problems.Expected(value, "a JSON pointer or a column");
    field.path = *text;
    field.constant.reset();
  } else if (part == "constant") {
    // Only an event id may be none.
    if (!text || (text->empty() && member != &EventMapping::event_id)) {
      return problems.Expected(value, "the text that every event has here");
    }
    field.constant = *text;
  } else if (part.starts_with("map.")) {
    if (!text) return problems.Expected(value, "a text");
    field.values[std::string(part.substr(4))] = *text;
  } else {
    const std::string prefix = value.path.substr(0, value.path.size() - part.size());
    problems.Unknown(value, prefix + NearestPart(part, member == &EventMapping::timestamp));
  }
}

// The whole field anew: what is not said falls back to its default.
void SetField(const ConfigValue& value, EventMapping& mapping, FieldMapping EventMapping::*member,
              ProblemList& problems) {
  const auto text = ScalarText(value);
  if (!value.node.IsMap() && (!text || text->empty())) return problems.Expected(value, kFieldExpected);
  const EventMapping defaults;
  mapping.*member = defaults.*member;
  if (member == &EventMapping::timestamp) mapping.timestamp_unit = defaults.timestamp_unit;
  if (text) {
    (mapping.*member).path = *text;
    return;
  }
  if (value.node["path"] && value.node["constant"]) return problems.Expected(value, "path or constant, not both");
  ForEachEntry(
      value, [&](const std::string& name, const ConfigValue& part) { SetPart(name, part, mapping, member, problems); });
}

void PrintField(YAML::Emitter& out, const EventMapping& mapping, FieldMapping EventMapping::*member) {
  const FieldMapping& field = mapping.*member;
  const bool has_unit = member == &EventMapping::timestamp && mapping.timestamp_unit != EventMapping().timestamp_unit;
  if (!field.constant && field.values.empty() && !has_unit) {
    out << field.path;
    return;
  }
  out << YAML::Flow << YAML::BeginMap;
  if (field.constant) {
    out << YAML::Key << "constant" << YAML::Value << *field.constant;
  } else {
    out << YAML::Key << "path" << YAML::Value << field.path;
  }
  if (!field.values.empty()) out << YAML::Key << "map" << YAML::Value << field.values;
  for (const auto& [name, unit] : kTimeUnits) {
    if (has_unit && unit == mapping.timestamp_unit) out << YAML::Key << "unit" << YAML::Value << std::string(name);
  }
  out << YAML::EndMap;
}

void SetProperty(std::string_view name, const ConfigValue& value, Config& config, ProblemList& problems) {
  auto text = ScalarText(value);
  if (name.empty()) return problems.Expected(value, "the name of a librdkafka property before its value");
  if (!text) return problems.Expected(value, "the text of a librdkafka property");
  const Status known = CheckKafkaProperty(std::string(name), *text);
  if (!known.ok()) return problems.Refused(value, known.error());
  config.kafka.properties[std::string(name)] = *std::move(text);
}

}  // namespace

Setting FieldSetting(std::string_view path, std::string_view description, FieldMapping EventMapping::*field) {
  Setting setting{path, std::string(kFieldExpected), description, {}, {}};
  setting.set = [field](const ConfigValue& value, Config& config, ProblemList& problems) {
    SetField(value, config.source.decoder.mapping, field, problems);
  };
  setting.print = [field](YAML::Emitter& out, const Config& config) {
    PrintField(out, config.source.decoder.mapping, field);
  };
  setting.set_below = [field](std::string_view rest, const ConfigValue& value, Config& config, ProblemList& problems) {
    SetPart(rest, value, config.source.decoder.mapping, field, problems);
  };
  return setting;
}

// A layer adds to the properties of the layers below, or replaces them one by one.
Setting PropertiesSetting() {
  Setting setting{
      "kafka.properties", "a map of librdkafka properties", "Properties of librdkafka, passed on as they are.", {}, {}};
  setting.set = [](const ConfigValue& value, Config& config, ProblemList& problems) {
    if (!value.node.IsMap() && !value.node.IsNull()) {
      return problems.Expected(value, "a map of librdkafka properties");
    }
    ForEachEntry(value, [&](const std::string& name, const ConfigValue& property) {
      SetProperty(name, property, config, problems);
    });
  };
  setting.print = [](YAML::Emitter& out, const Config& config) {
    if (config.kafka.properties.empty()) out << YAML::Flow;
    out << YAML::BeginMap;
    for (const auto& [name, value] : config.kafka.properties) {
      out << YAML::Key << name << YAML::Value << (IsSecretProperty(name) ? "********" : value);
    }
    out << YAML::EndMap;
  };
  setting.set_below = SetProperty;
  return setting;
}

}  // namespace freshet
