// freshet model inspect | verify | quantize; convert is in model_convert.cc.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "inference/model_config.h"
#include "inference/model_files.h"
#include "inference/sasrec.h"
#include "pipeline/commands/commands.h"
#include "pipeline/commands/outputs.h"
#include "pipeline/progress.h"
#include "pipeline/serving_model.h"

namespace freshet {
namespace {

constexpr std::pair<const char*, CachePrecision> kCachePrecisions[] = {
    {"fp32", CachePrecision::kFp32}, {"fp16", CachePrecision::kFp16}, {"int8", CachePrecision::kInt8}};

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
  for (const auto& [name, precision] : kCachePrecisions) {
    ASSIGN_OR_RETURN(const auto engine, Engine::Make(*model, precision));
    const bool is_default = precision == CachePrecision::kFp32;
    facts["key_value_bytes_per_user" + (is_default ? "" : std::string("_") + name)] = engine->CacheBytes(config.window);
    if (config.recomputes()) break;  // it keeps items, no keys and values
  }
  if (as_json) {
    std::cout << facts.dump(2) << "\n";
    return {};
  }
  for (const auto& [key, value] : facts.items()) {
    std::printf("%-29s %s\n", key.c_str(), value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
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
  const double error = std::sqrt(difference / std::max(norm, 1e-30));
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
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

// The incremental step with one kind of cache, and how far it was from the full model.
struct Stepper {
  const char* name;
  std::unique_ptr<const Engine> engine;
  std::unique_ptr<Engine::Scratch> scratch;
  double worst = 0;
};

// A model that recomputes has one kind only.
Result<std::vector<Stepper>> MakeSteppers(const Model& model, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto ranker, Ranker::Make(model));
  std::vector<Stepper> steppers;
  for (const auto& [name, precision] : kCachePrecisions) {
    ASSIGN_OR_RETURN(auto engine, Engine::Make(model, precision));
    const Status finite = CheckFinite(model, *engine, *ranker, precision);
    if (!finite.ok() && finite.error().code() == ErrorCode::kInvalidArgument) {  // nor would it be served so
      std::printf("with a cache of %s: %s\n", name, finite.error().message().c_str());
      continue;
    }
    if (!finite.ok()) return finite.error().At("model.directory: " + directory);
    auto scratch = engine->MakeScratch(256);
    steppers.push_back({name, std::move(engine), std::move(scratch)});
    if (model.config.recomputes()) break;
  }
  return steppers;
}

// full: the outputs behind the last tokens, [outputs, dim].
void Compare(std::span<const ModelToken> tokens, std::span<const float> full, size_t dim, Stepper& stepper) {
  const size_t first = tokens.size() - full.size() / dim;
  KeyValueCache cache;
  std::vector<float> vector(dim);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const StepRow row{&cache, tokens[i], i < first ? nullptr : vector.data()};
    stepper.engine->Step({&row, 1}, *stepper.scratch);
    if (i >= first)
      stepper.worst = std::max(stepper.worst, RelativeError(vector.data(), &full[(i - first) * dim], dim));
  }
}

// The law of the incremental step on this model's weights: every prefix of random users, incremental against full. What
// a cache of fewer bits costs is told, and bound by nothing: it depends on the weights.
Status Verify(const std::string& directory, int users, uint64_t seed) {
  SetUpLogging({});
  ASSIGN_OR_RETURN(const auto model, LoadModel(directory));
  ASSIGN_OR_RETURN(std::vector<Stepper> steppers, MakeSteppers(*model, directory));
  const auto dim = static_cast<size_t>(model->config.dim);
  std::mt19937_64 random(seed);
  int64_t prefixes = 0;
  Progress progress("model verify", model->config.recomputes() ? "windows" : "prefixes");
  for (int user = 0; user < users; ++user) {
    const size_t length = 1 + random() % (3 * static_cast<size_t>(model->config.window));
    const std::vector<ModelToken> tokens = RandomHistory(model->config, length, random);
    const std::vector<float> full = ExpectedOutputs(*model, tokens);
    for (Stepper& stepper : steppers) Compare(tokens, full, dim, stepper);
    prefixes += static_cast<int64_t>(full.size() / dim);
    progress.Update(prefixes, (user + 1.0) / users);
  }
  progress.Finish();
  const double worst = steppers[0].worst;
  // What recomputes its window has no step that goes on from another: its fast kernels are held against the plain ones.
  const bool recomputes = model->config.recomputes();
  std::printf("%lld %s of %d users (seed %llu): largest relative error of %s %.2e, bound 1e-05: %s\n",
              static_cast<long long>(prefixes), recomputes ? "windows" : "prefixes", users,
              static_cast<unsigned long long>(seed),
              recomputes ? "the window computed anew, against its plain twin," : "the incremental step", worst,
              worst <= 1e-5 ? "ok" : "FAILED");
  for (size_t i = 1; i < steppers.size(); ++i)
    std::printf("with a cache of %s: %.2e\n", steppers[i].name, steppers[i].worst);
  if (worst > 1e-5)
    return Error(ErrorCode::kInternal, "model.directory: " + directory + ": " +
                                           (recomputes ? "the window computed anew differs from its plain twin"
                                                       : "the incremental step differs from the full model"));
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
  RETURN_IF_ERROR(CheckOutputDirectory("--output", output, kModelFiles, FilesRead({}, {}, std::span(&directory, 1))));
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
      command->add_subcommand("verify",
                              "Its incremental step against a full recomputation, on random histories; of a model that "
                              "recomputes its window (SASRec), that against its plain twin");
  verify->add_option("directory", *directory, "Model directory")->required()->check(NotEmpty());
  verify->add_option("--users", *users, "Random users, of up to 3 windows of events each")
      ->transform(WholeNumber(1, 1000000))
      ->capture_default_str();
  verify->add_option("--seed", *seed, "Seed of the histories")->transform(WholeNumber())->capture_default_str();
  verify->footer("Example:\n  freshet model verify models/demo --users 100");
  verify->callback([=, &action] { action = [=] { return Verify(*directory, *users, *seed); }; });
  AddQuantize(*command, action);
  AddModelConvert(*command, action);
}

}  // namespace freshet
