#include "inference/model_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "inference/strict_json.h"

namespace freshet {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kKeys[] = {"format", "block",  "items",      "event_types", "dim",      "layers",   "heads",
                                      "window", "ln_eps", "similarity", "temperature", "norm_eps", "time_unit"};
constexpr std::string_view kKeysOfHstu[] = {"attention_scale", "time_bias"};
constexpr std::string_view kKeysOfTransformer[] = {"attention", "ffn_dim", "time_bias"};
constexpr std::string_view kKeysOfSasrec[] = {"ffn_dim", "norm", "padding", "relu", "scaled_items", "input_embedding"};
constexpr int kMaxFfnDim = 1 << 14;

// With more than one name in a file.
constexpr Block kBlocks[] = {Block::kHstu, Block::kTransformer, Block::kSasrec};
constexpr Norm kNorms[] = {Norm::kQuery, Norm::kPost, Norm::kPre};
constexpr Padding kPaddings[] = {Padding::kNone, Padding::kZero, Padding::kToken};

std::string FormatName(Block block) { return "freshet-" + std::string(BlockName(block)) + "-1"; }

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

// Reads a choice of `values`, which `name` gives their text.
template <typename Choice, size_t size>
Status ReadChoice(const Json& json, std::string_view key, const Choice (&values)[size],
                  std::string_view (*name)(Choice), Choice& choice) {
  const Json value = At(json, key);
  std::string expected;
  for (size_t i = 0; i < size; ++i) {
    if (value == name(values[i])) {
      choice = values[i];
      return {};
    }
    expected += (i == 0 ? "\"" : i + 1 < size ? ", \"" : " or \"") + std::string(name(values[i])) + "\"";
  }
  return Wrong(key, value, expected);
}

Status ReadFlag(const Json& json, std::string_view key, bool& flag) {
  const Json value = At(json, key);
  if (!value.is_boolean()) return Wrong(key, value, "true or false");
  flag = value.get<bool>();
  return {};
}

Status RequireText(const Json& json, std::string_view key, std::string_view expected) {
  const Json value = At(json, key);
  if (value.is_string() && value.get_ref<const std::string&>() == expected) return {};
  return Wrong(key, value, "\"" + std::string(expected) + "\"");
}

Status CheckKeys(const Json& json, Block block) {
  std::span<const std::string_view> more = kKeysOfHstu;
  if (block == Block::kTransformer) more = kKeysOfTransformer;
  if (block == Block::kSasrec) more = kKeysOfSasrec;
  const auto is_among = [](std::span<const std::string_view> keys, std::string_view key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  for (const auto& [key, value] : json.items()) {
    if (is_among(kKeys, key) || is_among(more, key)) continue;
    return Error(ErrorCode::kInvalidArgument,
                 key + ": unknown key for block \"" + std::string(BlockName(block)) + "\"");
  }
  return {};
}

Status ReadBlock(const Json& json, ModelConfig& config) {
  RETURN_IF_ERROR(ReadChoice(json, "block", kBlocks, BlockName, config.block));
  RETURN_IF_ERROR(RequireText(json, "format", FormatName(config.block)));
  return CheckKeys(json, config.block);
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
  RETURN_IF_ERROR(ReadPositive(json, "ln_eps", config.ln_eps));
  if (config.block == Block::kSasrec) {
    config.time_bias = false;
    return {};
  }
  RETURN_IF_ERROR(ReadFlag(json, "time_bias", config.time_bias));
  const Json scale = At(json, "attention_scale");  // a key of HSTU only
  if (!scale.is_null() && !scale.is_discarded()) {
    double number = 0;
    RETURN_IF_ERROR(ReadPositive(json, "attention_scale", number));
    config.attention_scale = number;
  }
  return {};
}

Status ReadTransformer(const Json& json, ModelConfig& config) {
  const Json attention = At(json, "attention");
  if (attention != "softmax" && attention != "additive") {
    return Wrong("attention", attention, "\"softmax\" or \"additive\"");
  }
  config.attention = attention == "softmax" ? Attention::kSoftmax : Attention::kAdditive;
  return ReadSize(json, "ffn_dim", 1, kMaxFfnDim, config.ffn_dim);
}

Status ReadSasrec(const Json& json, ModelConfig& config) {
  SasrecForm& form = config.sasrec;
  RETURN_IF_ERROR(ReadSize(json, "ffn_dim", 1, kMaxFfnDim, config.ffn_dim));
  RETURN_IF_ERROR(ReadChoice(json, "norm", kNorms, NormName, form.norm));
  RETURN_IF_ERROR(ReadChoice(json, "padding", kPaddings, PaddingName, form.padding));
  RETURN_IF_ERROR(ReadFlag(json, "relu", form.relu));
  RETURN_IF_ERROR(ReadFlag(json, "scaled_items", form.scaled_items));
  RETURN_IF_ERROR(ReadFlag(json, "input_embedding", form.input_embedding));
  return RequireText(json, "similarity", "dot");
}

}  // namespace

Result<ModelConfig> ParseModelConfig(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text));
  if (!json.is_object()) return Error(ErrorCode::kInvalidArgument, "not a JSON object");
  ModelConfig config;
  RETURN_IF_ERROR(ReadBlock(json, config));
  RETURN_IF_ERROR(RequireText(json, "time_unit", "s"));
  RETURN_IF_ERROR(ReadSizes(json, config));
  RETURN_IF_ERROR(ReadAttention(json, config));
  if (config.block == Block::kTransformer) RETURN_IF_ERROR(ReadTransformer(json, config));
  if (config.block == Block::kSasrec) RETURN_IF_ERROR(ReadSasrec(json, config));
  RETURN_IF_ERROR(ReadScoring(json, config));
  return config;
}

std::string_view BlockName(Block block) {
  if (block == Block::kSasrec) return "sasrec";
  return block == Block::kHstu ? "hstu" : "transformer";
}

std::string_view AttentionName(Attention attention) {
  return attention == Attention::kSoftmax ? "softmax" : "additive";
}

std::string_view NormName(Norm norm) {
  if (norm == Norm::kQuery) return "query";
  return norm == Norm::kPost ? "post" : "pre";
}

std::string_view PaddingName(Padding padding) {
  if (padding == Padding::kNone) return "none";
  return padding == Padding::kZero ? "zero" : "token";
}

std::string ModelConfigText(const ModelConfig& config) {
  nlohmann::ordered_json json;
  json["format"] = FormatName(config.block);
  json["block"] = BlockName(config.block);
  json["items"] = config.items;
  json["event_types"] = config.event_types;
  json["dim"] = config.dim;
  json["layers"] = config.layers;
  json["heads"] = config.heads;
  json["window"] = config.window;
  if (config.block == Block::kSasrec) {
    json["norm"] = NormName(config.sasrec.norm);
    json["padding"] = PaddingName(config.sasrec.padding);
    json["relu"] = config.sasrec.relu;
    json["scaled_items"] = config.sasrec.scaled_items;
    json["input_embedding"] = config.sasrec.input_embedding;
    json["ffn_dim"] = config.ffn_dim;
  } else {
    json["time_bias"] = config.time_bias;
  }
  if (config.block == Block::kTransformer) {
    json["attention"] = AttentionName(config.attention);
    json["ffn_dim"] = config.ffn_dim;
  } else if (config.block == Block::kHstu) {
    json["attention_scale"] = nullptr;
    if (config.attention_scale) json["attention_scale"] = *config.attention_scale;
  }
  json["ln_eps"] = config.ln_eps;
  json["similarity"] = config.similarity == Similarity::kCosine ? "cosine" : "dot";
  json["temperature"] = config.temperature;
  json["norm_eps"] = config.norm_eps;
  json["time_unit"] = "s";
  return json.dump(2) + "\n";
}

}  // namespace freshet
