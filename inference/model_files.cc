#include "inference/model_files.h"

#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <system_error>
#include <utility>

#include "inference/model_config.h"
#include "inference/safetensors.h"

namespace freshet {
namespace {

size_t Size(int number) { return static_cast<size_t>(number); }

std::string VocabularyText(const std::vector<std::string>& ids) {
  std::string text;
  for (size_t row = 0; row < ids.size(); ++row) text += std::to_string(row) + '\t' + ids[row] + '\n';
  return text;
}

std::vector<TensorView> TensorViews(const Model& model) {
  std::vector<TensorView> views;
  const auto storage = TensorStorage(model);
  for (TensorSpec& spec : TensorSpecs(model.config)) {
    const std::vector<float>& values = *storage[views.size()];
    views.push_back(
        {std::move(spec.name), TensorType::kFloat32, std::move(spec.shape), std::as_bytes(std::span(values))});
  }
  return views;
}

Status WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) return Error(ErrorCode::kIo, path.string() + ": cannot be written: " + std::strerror(errno));
  return {};
}

}  // namespace

std::vector<LayerTensor> LayerTensors(const ModelConfig& config) {
  using Layer = LayerWeights;
  const size_t d = Size(config.dim), heads = Size(config.heads), ffn = Size(config.ffn_dim);
  const bool is_hstu = config.block == Block::kHstu;
  std::vector<LayerTensor> tensors = {
      is_hstu ? LayerTensor{{"uvqk.weight", {d, 4 * d}, "[dim, 4·dim]"}, &Layer::projection}
              : LayerTensor{{"qkv.weight", {d, 3 * d}, "[dim, 3·dim]"}, &Layer::projection},
      {{"out.weight", {d, d}, "[dim, dim]"}, &Layer::out},
      {{"out.bias", {d}, "[dim]"}, &Layer::out_bias},
  };
  if (!is_hstu && config.attention == Attention::kAdditive) {
    tensors.push_back({{"score.weight", {heads, Size(config.head_dim())}, "[heads, dim / heads]"}, &Layer::score});
  }
  if (!is_hstu) {
    tensors.push_back({{"ffn_in.weight", {d, 2 * ffn}, "[dim, 2·ffn_dim]"}, &Layer::ffn_in});
    tensors.push_back({{"ffn_out.weight", {ffn, d}, "[ffn_dim, dim]"}, &Layer::ffn_out});
    tensors.push_back({{"ffn_out.bias", {d}, "[dim]"}, &Layer::ffn_out_bias});
  }
  tensors.push_back({{"bias_pos", {heads, Size(config.window)}, "[heads, window]"}, &Layer::bias_pos});
  if (!config.time_bias) return tensors;
  tensors.push_back({{"bias_time", {heads, Size(Model::kTimeBuckets)}, "[heads, 129]"}, &Layer::bias_time});
  return tensors;
}

std::vector<TensorSpec> TensorSpecs(const ModelConfig& config) {
  const size_t d = Size(config.dim);
  std::vector<TensorSpec> specs = {
      {"item_embedding.weight", {Size(config.items), d}, "[items, dim]"},
      {"type_embedding.weight", {Size(config.event_types), d}, "[event_types, dim]"},
  };
  const std::vector<LayerTensor> tensors = LayerTensors(config);
  for (int l = 0; l < config.layers; ++l) {
    for (const LayerTensor& tensor : tensors) {
      specs.push_back(tensor.spec);
      specs.back().name = "layers." + std::to_string(l) + "." + tensor.spec.name;
    }
  }
  return specs;
}

VersionHash::VersionHash() : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_64bits_reset(state_);
}

VersionHash::~VersionHash() { XXH3_freeState(state_); }

void VersionHash::BeginFile(std::string_view name, uint64_t length) {
  Add(name);
  Add(std::string_view("\0", 1));
  Add(std::as_bytes(std::span(&length, 1)));
}

void VersionHash::Add(std::span<const std::byte> bytes) { XXH3_64bits_update(state_, bytes.data(), bytes.size()); }

void VersionHash::Add(std::string_view bytes) { Add(std::as_bytes(std::span(bytes))); }

void VersionHash::Finish(Model& model) const {
  const uint64_t hash = XXH3_64bits_digest(state_);
  model.tag = ModelTag{hash == 0 ? 1 : hash};  // 0 is "none"
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(Raw(model.tag)));
  model.version = text;
}

std::unique_ptr<Model> NewModel(std::string name, const ModelConfig& config, Vocabulary vocabulary) {
  auto model = std::unique_ptr<Model>(new Model{std::move(name), {}, {}, config, std::move(vocabulary), {}, {}, {}});
  model->layers.resize(static_cast<size_t>(config.layers));
  return model;
}

void SetVersion(Model& model) {
  VersionHash hash;
  const auto add_file = [&](std::string_view name, const std::string& content) {
    hash.BeginFile(name, content.size());
    hash.Add(content);
  };
  add_file(kConfigFile, ModelConfigText(model.config));
  add_file(kTypesFile, VocabularyText(model.vocabulary.type_names()));
  add_file(kItemsFile, VocabularyText(model.vocabulary.item_ids()));
  const std::vector<TensorView> tensors = TensorViews(model);
  const std::string header = SafetensorsHeader(tensors);
  size_t length = header.size();
  for (const TensorView& tensor : tensors) length += tensor.bytes.size();
  hash.BeginFile(kWeightsFile, length);
  hash.Add(header);
  for (const TensorView& tensor : tensors) hash.Add(tensor.bytes);
  hash.Finish(model);
}

Status WriteModelDirectory(const Model& model, const std::filesystem::path& directory) {
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  if (failure) return Error(ErrorCode::kIo, directory.string() + ": cannot be made: " + failure.message());
  RETURN_IF_ERROR(WriteText(directory / kConfigFile, ModelConfigText(model.config)));
  RETURN_IF_ERROR(WriteText(directory / kTypesFile, VocabularyText(model.vocabulary.type_names())));
  RETURN_IF_ERROR(WriteText(directory / kItemsFile, VocabularyText(model.vocabulary.item_ids())));
  return WriteSafetensors(directory / kWeightsFile, TensorViews(model));
}

}  // namespace freshet
