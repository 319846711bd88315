#include "inference/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "inference/strict_json.h"

namespace freshet {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 15> kKeys = {
    "format",     "block",       "items",    "event_types",     "dim",       "layers",   "heads", "window", "ln_eps",
    "similarity", "temperature", "norm_eps", "attention_scale", "time_bias", "time_unit"};

Error Wrong(std::string_view key, const Json& value, const std::string& expected) {
  return Error(ErrorCode::kInvalidArgument,
               std::string(key) + ": " + (value.is_discarded() ? "missing" : value.dump()) + ", expected " + expected);
}

// The value, or a discarded one where the key is missing.
Json At(const Json& json, std::string_view key) {
  const auto found = json.find(std::string(key));
  return found == json.end() ? Json(Json::value_t::discarded) : *found;
}

Status ReadSize(const Json& json, std::string_view key, int least, int most, int& size) {
  const Json value = At(json, key);
  if (!value.is_number_integer() || value < least || value > most) {
    return Wrong(key, value, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  size = value.get<int>();
  return {};
}

Status ReadPositive(const Json& json, std::string_view key, double& number) {
  const Json value = At(json, key);
  // What float32 arithmetic can use: neither 0 nor infinite there.
  if (!value.is_number() || !(value.get<double>() >= 1e-30 && value.get<double>() <= 1e30)) {
    return Wrong(key, value, "a number from 1e-30 to 1e30");
  }
  number = value.get<double>();
  return {};
}

Status RequireText(const Json& json, std::string_view key, std::string_view expected) {
  const Json value = At(json, key);
  if (value.is_string() && value.get_ref<const std::string&>() == expected) return {};
  return Wrong(key, value, "\"" + std::string(expected) + "\"");
}

Status ReadSizes(const Json& json, ModelConfig& config) {
  RETURN_IF_ERROR(ReadSize(json, "items", 1, 1 << 30, config.items));
  RETURN_IF_ERROR(ReadSize(json, "event_types", 1, 1 << 20, config.event_types));
  RETURN_IF_ERROR(ReadSize(json, "dim", 1, 4096, config.dim));
  RETURN_IF_ERROR(ReadSize(json, "layers", 1, 64, config.layers));
  RETURN_IF_ERROR(ReadSize(json, "heads", 1, config.dim, config.heads));
  RETURN_IF_ERROR(ReadSize(json, "window", 1, 1 << 16, config.window));
  if (config.dim % config.heads != 0) {
    return Wrong("heads", At(json, "heads"), "a divisor of dim " + std::to_string(config.dim));
  }
  return {};
}

Status ReadScoring(const Json& json, ModelConfig& config) {
  const Json similarity = At(json, "similarity");
  if (similarity != "cosine" && similarity != "dot") return Wrong("similarity", similarity, "\"cosine\" or \"dot\"");
  config.similarity = similarity == "cosine" ? Similarity::kCosine : Similarity::kDot;
  const Json temperature = At(json, "temperature");
  const bool may_lack = config.similarity == Similarity::kDot && (temperature.is_null() || temperature.is_discarded());
  if (!may_lack) RETURN_IF_ERROR(ReadPositive(json, "temperature", config.temperature));
  return ReadPositive(json, "norm_eps", config.norm_eps);
}

Status ReadAttention(const Json& json, ModelConfig& config) {
  const Json time_bias = At(json, "time_bias");
  if (!time_bias.is_boolean()) return Wrong("time_bias", time_bias, "true or false");
  config.time_bias = time_bias.get<bool>();
  const Json scale = At(json, "attention_scale");
  if (!scale.is_null() && !scale.is_discarded()) {
    double number = 0;
    RETURN_IF_ERROR(ReadPositive(json, "attention_scale", number));
    config.attention_scale = number;
  }
  return ReadPositive(json, "ln_eps", config.ln_eps);
}

}  // namespace

Result<ModelConfig> ParseModelConfig(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text));
  if (!json.is_object()) return Error(ErrorCode::kInvalidArgument, "not a JSON object");
  for (const auto& [key, value] : json.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
      return Error(ErrorCode::kInvalidArgument, key + ": unknown key");
    }
  }
  ModelConfig config;
  RETURN_IF_ERROR(RequireText(json, "format", "freshet-hstu-1"));
  RETURN_IF_ERROR(RequireText(json, "block", "hstu"));
  RETURN_IF_ERROR(RequireText(json, "time_unit", "s"));
  RETURN_IF_ERROR(ReadSizes(json, config));
  RETURN_IF_ERROR(ReadAttention(json, config));
  RETURN_IF_ERROR(ReadScoring(json, config));
  return config;
}

std::string ModelConfigText(const ModelConfig& config) {
  nlohmann::ordered_json json;
  json["format"] = "freshet-hstu-1";
  json["block"] = "hstu";
  json["items"] = config.items;
  json["event_types"] = config.event_types;
  json["dim"] = config.dim;
  json["layers"] = config.layers;
  json["heads"] = config.heads;
  json["window"] = config.window;
  json["time_bias"] = config.time_bias;
  json["attention_scale"] = nullptr;
  if (config.attention_scale) json["attention_scale"] = *config.attention_scale;
  json["ln_eps"] = config.ln_eps;
  json["similarity"] = config.similarity == Similarity::kCosine ? "cosine" : "dot";
  json["temperature"] = config.temperature;
  json["norm_eps"] = config.norm_eps;
  json["time_unit"] = "s";
  return json.dump(2) + "\n";
}

}  // namespace freshet
