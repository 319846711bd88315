// freshet model inspect | verify | quantize; convert is in model_convert.cc.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "inference/model_config.h"
#include "inference/model_files.h"
#include "inference/sasrec.h"
#include "pipeline/commands/commands.h"
#include "pipeline/progress.h"
#include "pipeline/serving_model.h"

namespace freshet {
namespace {

// The numbers that the weights are stored in: how many of each type, and their bytes together.
struct StoredNumbers {
  nlohmann::ordered_json of_type = nlohmann::ordered_json::object();
  size_t bytes = 0;
};

Result<StoredNumbers> CountStored(const std::string& directory) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(std::filesystem::path(directory) / kWeightsFile));
  StoredNumbers stored;
  for (const TensorEntry& tensor : file.tensors()) {
    size_t numbers = 1;
    for (const size_t length : tensor.shape) numbers *= length;
    stored.of_type[tensor.type] = stored.of_type.value(tensor.type, size_t{0}) + numbers;
    stored.bytes += tensor.end - tensor.begin;
  }
  return stored;
}

Status Inspect(const std::string& directory, bool as_json) {
  ASSIGN_OR_RETURN(const auto model, LoadModel(directory));
  ASSIGN_OR_RETURN(const StoredNumbers stored, CountStored(directory));
  const ModelConfig& config = model->config;
  nlohmann::ordered_json facts = {{"name", model->name},
                                  {"version", model->version},
                                  {"block", BlockName(config.block)},
                                  {"items", config.items - 1},
                                  {"event_types", config.event_types - 1},
                                  {"dim", config.dim},
                                  {"layers", config.layers},
                                  {"heads", config.heads},
                                  {"window", config.window},
                                  {"time_bias", config.time_bias},
                                  {"similarity", config.similarity == Similarity::kCosine ? "cosine" : "dot"},
                                  {"parameters", model->parameters},
                                  {"stored", stored.of_type},
                                  {"weight_bytes", stored.bytes},
                                  {"tokens_for_exact_rebuild", config.exact_history()}};
  if (model->item_codes) {
    facts["item_codes"] = {{"parts", model->item_codes->parts}, {"centroids", model->item_codes->centroid_count}};
  }
  if (config.block == Block::kTransformer) {
    facts["attention"] = AttentionName(config.attention);
    facts["ffn_dim"] = config.ffn_dim;
  }
  if (config.block == Block::kSasrec) {
    facts["norm"] = NormName(config.sasrec.norm);
    facts["padding"] = PaddingName(config.sasrec.padding);
    facts["ffn_dim"] = config.ffn_dim;
    facts["recomputes"] = true;
  }
  ASSIGN_OR_RETURN(const auto engine, Engine::Make(*model));
  facts["key_value_bytes_per_user"] = engine->CacheBytes(config.window);
  if (as_json) {
    std::cout << facts.dump(2) << "\n";
    return {};
  }
  for (const auto& [key, value] : facts.items()) {
    std::printf("%-26s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
  return {};
}

// A user whose times stand still, jump and now and then run backwards.
std::vector<ModelToken> RandomHistory(const ModelConfig& config, size_t length, std::mt19937_64& random) {
  std::vector<ModelToken> tokens(length);
  int64_t time_s = 1'500'000'000;
  for (ModelToken& token : tokens) {
    token.item = ItemRow{static_cast<uint32_t>(random() % static_cast<uint64_t>(config.items))};
    token.type = TypeRow{static_cast<uint32_t>(random() % static_cast<uint64_t>(config.event_types))};
    const uint64_t kind = random() % 8;
    if (kind == 0) time_s -= static_cast<int64_t>(random() % 3600);
    if (kind > 1) time_s += static_cast<int64_t>(random() % (kind == 7 ? 40'000'000 : 600));
    token.time_s = time_s;
  }
  return tokens;
}

double RelativeError(const float* actual, const float* expected, size_t size) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < size; ++i) {
    difference += (actual[i] - expected[i]) * static_cast<double>(actual[i] - expected[i]);
    norm += expected[i] * static_cast<double>(expected[i]);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

// What a step should give for every prefix, [prefixes, dim]; of a model that recomputes only for the whole, each prefix
// of it being as much work.
std::vector<float> ExpectedOutputs(const Model& model, std::span<const ModelToken> tokens) {
  if (!model.config.recomputes()) return FullForward(model, tokens);
  std::vector<ItemRow> items;
  const size_t window = std::min(tokens.size(), static_cast<size_t>(model.config.window));
  for (const ModelToken& token : tokens.last(window)) items.push_back(token.item);
  return RecomputePlain(model, items);
}

// The law of the incremental step on this model's weights: every prefix of random users, incremental against full.
Status Verify(const std::string& directory, int users, uint64_t seed) {
  SetUpLogging({});
  ASSIGN_OR_RETURN(const auto model, LoadModel(directory));
  ASSIGN_OR_RETURN(const auto engine, Engine::Make(*model));
  ASSIGN_OR_RETURN(const auto ranker, Ranker::Make(*model));
  const Status finite = CheckFinite(*model, *engine, *ranker);
  if (!finite.ok()) return finite.error().At("model.directory: " + directory);
  const auto scratch = engine->MakeScratch(256);
  const auto dim = static_cast<size_t>(model->config.dim);
  std::mt19937_64 random(seed);
  double worst = 0;
  int64_t prefixes = 0;
  Progress progress("model verify", "prefixes");
  for (int user = 0; user < users; ++user) {
    const size_t length = 1 + random() % (3 * static_cast<size_t>(model->config.window));
    const std::vector<ModelToken> tokens = RandomHistory(model->config, length, random);
    const std::vector<float> full = ExpectedOutputs(*model, tokens);
    const size_t first = length - full.size() / dim;
    KeyValueCache cache;
    std::vector<float> vector(dim);
    for (size_t i = 0; i < length; ++i) {
      const StepRow row{&cache, tokens[i], i < first ? nullptr : vector.data()};
      engine->Step({&row, 1}, *scratch);
      if (i < first) continue;
      worst = std::max(worst, RelativeError(vector.data(), &full[(i - first) * dim], dim));
      ++prefixes;
    }
    progress.Update(prefixes, (user + 1.0) / users);
  }
  progress.Finish();
  std::printf(
      "%lld prefixes of %d users (seed %llu): largest relative error of the incremental step %.2e, bound 1e-05: %s\n",
      static_cast<long long>(prefixes), users, static_cast<unsigned long long>(seed), worst,
      worst <= 1e-5 ? "ok" : "FAILED");
  if (worst > 1e-5)
    return Error(ErrorCode::kInternal,
                 "model.directory: " + directory + ": the incremental step differs from the full model");
  return {};
}

// Writes the model with its matrices in the numbers that are asked for.
Status Quantize(const std::string& directory, const std::string& output, const StoredAs& stored) {
  SetUpLogging({});
  std::error_code absent;
  if (std::filesystem::equivalent(directory, output, absent)) {
    return Error(ErrorCode::kInvalidArgument,
                 "--output: " + output + ": is the model itself, expected another directory");
  }
  ASSIGN_OR_RETURN(const auto model, LoadModel(directory));
  ASSIGN_OR_RETURN(const StoredNumbers before, CountStored(directory));
  RETURN_IF_ERROR(WriteModelDirectory(*model, output, stored));
  ASSIGN_OR_RETURN(const auto written, LoadModel(output));
  ASSIGN_OR_RETURN(const StoredNumbers after, CountStored(output));
  const std::string_view items = written->item_codes ? "codes" : NumberTypeName(stored.items);
  std::printf("%s: weights %s, items %s, version %s, %zu bytes of tensors (%.1f %% of %zu)\n", output.c_str(),
              std::string(NumberTypeName(stored.weights)).c_str(), std::string(items).c_str(), written->version.c_str(),
              after.bytes, 100 * static_cast<double>(after.bytes) / static_cast<double>(before.bytes), before.bytes);
  return {};
}

CLI::Option* AddNumberTypeFlag(CLI::App& command, const std::string& flag, const std::string& of_what,
                               NumberType& type) {
  return command
      .add_option_function<std::string>(
          flag, [&type](const std::string& name) { type = *ParseNumberType(name); }, of_what + ": fp32, bf16 or int8")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->default_str(std::string(NumberTypeName(type)));
}

void AddQuantize(CLI::App& parent, Action& action) {
  CLI::App* const command =
      parent.add_subcommand("quantize", "Writes a model again with its matrices in numbers of fewer bits");
  auto directory = std::make_shared<std::string>(), output = std::make_shared<std::string>();
  auto stored = std::make_shared<StoredAs>(StoredAs{NumberType::kInt8, NumberType::kInt8});
  command->add_option("directory", *directory, "Model directory")->required()->check(NotEmpty());
  command->add_option("--output", *output, "Model directory to write")->required()->check(NotEmpty());
  AddNumberTypeFlag(*command, "--weights", "Projections and feed-forward part", stored->weights);
  CLI::Option* const items = AddNumberTypeFlag(*command, "--items", "The item table", stored->items);
  items->description(items->get_description() + "; not given, a table that is stored as codes stays so");
  command->footer("Example:\n  freshet model quantize models/demo --output models/demo-int8");
  command->callback([=, &action] {
    stored->keep_item_codes = items->empty();
    action = [=] { return Quantize(*directory, *output, *stored); };
  });
}

}  // namespace

void AddModel(CLI::App& app, Action& action) {
  CLI::App* const command =
      app.add_subcommand("model", "What a model is, whether its incremental step holds, and smaller numbers for it");
  command->require_subcommand(1);
  command->footer("Example:\n  freshet model inspect models/demo");
  auto directory = std::make_shared<std::string>();

  auto as_json = std::make_shared<bool>(false);
  CLI::App* const inspect =
      command->add_subcommand("inspect", "Loads and checks a model directory and prints what it is");
  inspect->add_option("directory", *directory, "Model directory")->required()->check(NotEmpty());
  inspect->add_flag("--json", *as_json, "As JSON");
  inspect->footer("Example:\n  freshet model inspect models/demo");
  inspect->callback([=, &action] { action = [=] { return Inspect(*directory, *as_json); }; });

  auto users = std::make_shared<int>(20);
  auto seed = std::make_shared<uint64_t>(1);
  CLI::App* const verify =
      command->add_subcommand("verify", "Its incremental step against a full recomputation, on random histories");
  verify->add_option("directory", *directory, "Model directory")->required()->check(NotEmpty());
  verify->add_option("--users", *users, "Random users, of up to 3 windows of events each")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  verify->add_option("--seed", *seed, "Seed of the histories")->check(WholeNumber())->capture_default_str();
  verify->footer("Example:\n  freshet model verify models/demo --users 100");
  verify->callback([=, &action] { action = [=] { return Verify(*directory, *users, *seed); }; });
  AddQuantize(*command, action);
  AddModelConvert(*command, action);
}

}  // namespace freshet
