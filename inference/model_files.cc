#include "inference/model_files.h"

#include <xxhash.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <new>
#include <system_error>
#include <utility>

#include "inference/model_config.h"

namespace freshet {
namespace {

size_t Size(int number) { return static_cast<size_t>(number); }

std::string VocabularyText(const std::vector<std::string>& ids) {
  std::string text;
  for (size_t row = 0; row < ids.size(); ++row) text += std::to_string(row) + '\t' + ids[row] + '\n';
  return text;
}

// A model's tensors as a file has them. Float32 values stay the model's.
struct StoredTensors {
  std::vector<TensorView> views;
  std::vector<Int8Matrix> int8;
  std::vector<std::vector<uint16_t>> bf16;
};

// `tensor` is F32 yet; `axis`: of its scales.
void AddInt8(const TensorView& tensor, std::span<const float> values, ScaleAxis axis, StoredTensors& stored) {
  const Int8Matrix& matrix = stored.int8.emplace_back(ToInt8(values, tensor.shape[1], axis));
  stored.views.push_back({tensor.name, TensorType::kInt8, tensor.shape, std::as_bytes(std::span(matrix.codes))});
  stored.views.push_back({tensor.name + std::string(kScaleSuffix),
                          TensorType::kFloat32,
                          {matrix.scales.size()},
                          std::as_bytes(std::span(matrix.scales))});
}

void AddBf16(const TensorView& tensor, std::span<const float> values, StoredTensors& stored) {
  std::vector<uint16_t>& numbers = stored.bf16.emplace_back(values.size());
  std::transform(values.begin(), values.end(), numbers.begin(), ToBf16);
  stored.views.push_back({tensor.name, TensorType::kBFloat16, tensor.shape, std::as_bytes(std::span(numbers))});
}

// The codes and centroids stay the model's.
void AddItemCodes(const ProductCodes& items, StoredTensors& stored) {
  stored.views.push_back({std::string(kItemCodes),
                          TensorType::kUInt8,
                          {items.codes.size() / items.parts, items.parts},
                          std::as_bytes(std::span(items.codes))});
  stored.views.push_back({std::string(kItemCentroids),
                          TensorType::kFloat32,
                          {items.parts, items.centroid_count, items.part_columns()},
                          std::as_bytes(std::span(items.centroids))});
}

StoredTensors StoreTensors(const Model& model, const StoredAs& types) {
  StoredTensors stored;
  const auto storage = TensorStorage(model);
  size_t next = 0;
  for (TensorSpec& spec : TensorSpecs(model.config)) {
    const std::vector<float>& values = *storage[next++];
    if (spec.name == kItemTable && model.item_codes && types.keep_item_codes) {
      AddItemCodes(*model.item_codes, stored);
      continue;
    }
    const bool is_items = &values == &model.item_embedding || &values == &model.input_embedding;
    const NumberType type = !spec.scale_axis ? NumberType::kFloat32 : is_items ? types.items : types.weights;
    TensorView tensor{std::move(spec.name), TensorType::kFloat32, std::move(spec.shape),
                      std::as_bytes(std::span(values))};
    if (type == NumberType::kInt8) {
      AddInt8(tensor, values, *spec.scale_axis, stored);
    } else if (type == NumberType::kBFloat16) {
      AddBf16(tensor, values, stored);
    } else {
      stored.views.push_back(std::move(tensor));
    }
  }
  return stored;
}

std::vector<LayerTensor> SasrecLayerTensors(const ModelConfig& config) {
  using Layer = LayerWeights;
  const size_t d = Size(config.dim), ffn = Size(config.ffn_dim);
  constexpr ScaleAxis by_column = ScaleAxis::kColumns;
  return {
      {{"attention_norm.weight", {d}, "[dim]"}, &Layer::attention_norm},
      {{"attention_norm.bias", {d}, "[dim]"}, &Layer::attention_norm_bias},
      {{"query.weight", {d, d}, "[dim, dim]", by_column}, &Layer::query},
      {{"query.bias", {d}, "[dim]"}, &Layer::query_bias},
      {{"key_value.weight", {d, 2 * d}, "[dim, 2·dim]", by_column}, &Layer::projection},
      {{"key_value.bias", {2 * d}, "[2·dim]"}, &Layer::projection_bias},
      {{"out.weight", {d, d}, "[dim, dim]", by_column}, &Layer::out},
      {{"out.bias", {d}, "[dim]"}, &Layer::out_bias},
      {{"ffn_norm.weight", {d}, "[dim]"}, &Layer::ffn_norm},
      {{"ffn_norm.bias", {d}, "[dim]"}, &Layer::ffn_norm_bias},
      {{"ffn_in.weight", {d, ffn}, "[dim, ffn_dim]", by_column}, &Layer::ffn_in},
      {{"ffn_in.bias", {ffn}, "[ffn_dim]"}, &Layer::ffn_in_bias},
      {{"ffn_out.weight", {ffn, d}, "[ffn_dim, dim]", by_column}, &Layer::ffn_out},
      {{"ffn_out.bias", {d}, "[dim]"}, &Layer::ffn_out_bias},
  };
}

// The three files beside model.safetensors.
struct Texts {
  explicit Texts(const Model& model)
      : config(ModelConfigText(model.config)),
        types(VocabularyText(model.vocabulary.type_names())),
        items(VocabularyText(model.vocabulary.item_ids())) {}
  SafetensorsMetadata Digests() const { return FileDigests(config, types, items); }

  std::string config, types, items;
};

Status WriteText(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  if (!stream) return Error(ErrorCode::kIo, path.string() + ": cannot be written: " + std::strerror(errno));
  return {};
}

// The four files of a model directory, each at `path` of its name.
template <typename Path>
Status WriteFiles(const Model& model, const StoredAs& stored, Path path) {
  const Texts texts(model);
  RETURN_IF_ERROR(WriteText(path(kConfigFile), texts.config));
  RETURN_IF_ERROR(WriteText(path(kTypesFile), texts.types));
  RETURN_IF_ERROR(WriteText(path(kItemsFile), texts.items));
  return WriteSafetensors(path(kWeightsFile), StoreTensors(model, stored).views, texts.Digests());
}

}  // namespace

std::vector<LayerTensor> LayerTensors(const ModelConfig& config) {
  if (config.block == Block::kSasrec) return SasrecLayerTensors(config);
  using Layer = LayerWeights;
  const size_t d = Size(config.dim), heads = Size(config.heads), ffn = Size(config.ffn_dim);
  const bool is_hstu = config.block == Block::kHstu;
  constexpr ScaleAxis by_column = ScaleAxis::kColumns;
  std::vector<LayerTensor> tensors = {
      is_hstu ? LayerTensor{{"uvqk.weight", {d, 4 * d}, "[dim, 4·dim]", by_column}, &Layer::projection}
              : LayerTensor{{"qkv.weight", {d, 3 * d}, "[dim, 3·dim]", by_column}, &Layer::projection},
      {{"out.weight", {d, d}, "[dim, dim]", by_column}, &Layer::out},
      {{"out.bias", {d}, "[dim]"}, &Layer::out_bias},
  };
  if (!is_hstu && config.attention == Attention::kAdditive) {
    tensors.push_back({{"score.weight", {heads, Size(config.head_dim())}, "[heads, dim / heads]"}, &Layer::score});
  }
  if (!is_hstu) {
    tensors.push_back({{"ffn_in.weight", {d, 2 * ffn}, "[dim, 2·ffn_dim]", by_column}, &Layer::ffn_in});
    tensors.push_back({{"ffn_out.weight", {ffn, d}, "[ffn_dim, dim]", by_column}, &Layer::ffn_out});
    tensors.push_back({{"ffn_out.bias", {d}, "[dim]"}, &Layer::ffn_out_bias});
  }
  tensors.push_back({{"bias_pos", {heads, Size(config.window)}, "[heads, window]"}, &Layer::bias_pos});
  if (!config.time_bias) return tensors;
  tensors.push_back({{"bias_time", {heads, Size(Model::kTimeBuckets)}, "[heads, 129]"}, &Layer::bias_time});
  return tensors;
}

std::vector<ModelTensor> ModelTensors(const ModelConfig& config) {
  const size_t d = Size(config.dim);
  const std::vector<size_t> items = {Size(config.items), d};
  std::vector<ModelTensor> tensors = {
      {{std::string(kItemTable), items, "[items, dim]", ScaleAxis::kRows}, &Model::item_embedding}};
  if (config.block != Block::kSasrec) {
    tensors.push_back(
        {{"type_embedding.weight", {Size(config.event_types), d}, "[event_types, dim]"}, &Model::type_embedding});
    return tensors;
  }
  if (config.sasrec.input_embedding) {
    tensors.push_back({{"input_embedding.weight", items, "[items, dim]", ScaleAxis::kRows}, &Model::input_embedding});
  }
  tensors.push_back(
      {{"position_embedding.weight", {Size(config.window), d}, "[window, dim]"}, &Model::position_embedding});
  tensors.push_back({{"norm.weight", {d}, "[dim]"}, &Model::norm});
  tensors.push_back({{"norm.bias", {d}, "[dim]"}, &Model::norm_bias});
  return tensors;
}

std::vector<TensorSpec> TensorSpecs(const ModelConfig& config) {
  std::vector<TensorSpec> specs;
  for (ModelTensor& tensor : ModelTensors(config)) specs.push_back(std::move(tensor.spec));
  const std::vector<LayerTensor> tensors = LayerTensors(config);
  for (int l = 0; l < config.layers; ++l) {
    for (const LayerTensor& tensor : tensors) {
      specs.push_back(tensor.spec);
      specs.back().name = "layers." + std::to_string(l) + "." + tensor.spec.name;
    }
  }
  return specs;
}

SafetensorsMetadata FileDigests(std::string_view config, std::string_view types, std::string_view items) {
  const auto digest = [](std::string_view bytes) {
    char text[32];
    const auto crc = crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    std::snprintf(text, sizeof text, "crc32:%08lx", static_cast<unsigned long>(crc));
    return std::string(text);
  };
  return {{std::string(kConfigFile), digest(config)},
          {std::string(kTypesFile), digest(types)},
          {std::string(kItemsFile), digest(items)}};
}

Status CheckDigests(const SafetensorsFile& weights, const SafetensorsMetadata& found) {
  for (const auto& [name, digest] : found) {
    const auto expected = weights.metadata().find(name);
    if (expected == weights.metadata().end() || expected->second == digest) continue;
    return Error(ErrorCode::kCorrupt, name + ": is " + digest + ", expected " + expected->second + " by " +
                                          std::string(kWeightsFile) + ": files of two models, or changed since");
  }
  return {};
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
  auto model =
      std::unique_ptr<Model>(new Model{.name = std::move(name), .config = config, .vocabulary = std::move(vocabulary)});
  model->layers.resize(static_cast<size_t>(config.layers));
  return model;
}

void SetVersion(Model& model) {
  VersionHash hash;
  const auto add_file = [&](std::string_view name, const std::string& content) {
    hash.BeginFile(name, content.size());
    hash.Add(content);
  };
  const Texts texts(model);
  add_file(kConfigFile, texts.config);
  add_file(kTypesFile, texts.types);
  add_file(kItemsFile, texts.items);
  const std::vector<TensorView> tensors = StoreTensors(model, {}).views;
  const std::string header = SafetensorsHeader(tensors, texts.Digests());
  size_t length = header.size();
  for (const TensorView& tensor : tensors) length += tensor.bytes.size();
  hash.BeginFile(kWeightsFile, length);
  hash.Add(header);
  for (const TensorView& tensor : tensors) hash.Add(tensor.bytes);
  hash.Finish(model);
}

Status WriteModelDirectory(const Model& model, const std::filesystem::path& directory, const StoredAs& stored) {
  std::error_code failure;
  std::filesystem::create_directories(directory, failure);
  if (failure) return Error(ErrorCode::kIo, directory.string() + ": cannot be made: " + failure.message());
  // Beside those that are there, which a full disk then leaves as they are.
  const auto unfinished = [&](std::string_view name) { return directory / (std::string(name) + ".new"); };
  Status status = WriteFiles(model, stored, unfinished);
  for (const std::string_view name : kModelFiles) {
    std::error_code ignored;
    if (!status.ok()) {
      std::filesystem::remove(unfinished(name), ignored);
      continue;
    }
    std::filesystem::rename(unfinished(name), directory / name, failure);
    if (failure) status = Error(ErrorCode::kIo, (directory / name).string() + ": cannot be made: " + failure.message());
  }
  return status;
}

}  // namespace freshet
