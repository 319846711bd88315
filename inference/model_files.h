// What the files of a model directory hold, and the version that follows from them; shared by loader and writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "inference/model.h"
#include "inference/number_types.h"
#include "inference/safetensors.h"

struct XXH3_state_s;

namespace freshet {

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kTypesFile = "event_types.tsv";
inline constexpr std::string_view kItemsFile = "items.tsv";
inline constexpr std::string_view kWeightsFile = "model.safetensors";
inline constexpr std::string_view kModelFiles[] = {kConfigFile, kTypesFile, kItemsFile, kWeightsFile};
inline constexpr std::string_view kScaleSuffix = ".scale";  // of a tensor that is stored as I8
inline constexpr std::string_view kItemTable = "item_embedding.weight";
// In its place, where it is stored as codes.
inline constexpr std::string_view kItemCodes = "item_embedding.codes";
inline constexpr std::string_view kItemCentroids = "item_embedding.centroids";

// A tensor that a model of some shape has.
struct TensorSpec {
  std::string name;
  std::vector<size_t> shape;
  std::string_view meaning;  // of the shape: "[dim, 4·dim]"
  // Along what its scales go where it is stored as I8; none: it is always F32.
  std::optional<ScaleAxis> scale_axis = std::nullopt;
};

// A tensor of each layer, named without its "layers.{l}.", and where the layer keeps it.
struct LayerTensor {
  TensorSpec spec;
  std::vector<float> LayerWeights::*values;
};

std::vector<LayerTensor> LayerTensors(const ModelConfig& config);

// A tensor that a model has once.
struct ModelTensor {
  TensorSpec spec;
  std::vector<float> Model::*values;
};

std::vector<ModelTensor> ModelTensors(const ModelConfig& config);

// Every tensor of model.safetensors.
std::vector<TensorSpec> TensorSpecs(const ModelConfig& config);

// Where a model keeps them, in the order of TensorSpecs().
template <typename AnyModel>
auto TensorStorage(AnyModel& model) {
  std::vector<decltype(&model.item_embedding)> storage;
  for (const ModelTensor& tensor : ModelTensors(model.config)) storage.push_back(&(model.*tensor.values));
  const std::vector<LayerTensor> tensors = LayerTensors(model.config);
  for (auto& layer : model.layers) {
    for (const LayerTensor& tensor : tensors) storage.push_back(&(layer.*tensor.values));
  }
  return storage;
}

// The file holds the tensors that the shape asks for, and no other.
[[nodiscard]] Status CheckTensors(const ModelConfig& config, const SafetensorsFile& file);

// What model.safetensors says of the files beside it, by name: that they are of the same model. CRC-32, in 8
// hexadecimal digits behind "crc32:".
SafetensorsMetadata FileDigests(std::string_view config, std::string_view types, std::string_view items);

// `weights` says nothing else of the files beside it than `found`; what it does not mention may be anything.
[[nodiscard]] Status CheckDigests(const SafetensorsFile& weights, const SafetensorsMetadata& found);

class VersionHash;

// Reads all tensors into the model, in the file's order, so that the hash sees the file's bytes in theirs.
// REQUIRES: CheckTensors() is ok.
[[nodiscard]] Status ReadWeights(SafetensorsFile& file, Model& model, VersionHash& hash);

// Hash of the four files, taken in the order of their names: for each its name, a zero byte, its length (u64,
// little-endian) and its bytes. XXH3, 64 bit.
class VersionHash {
 public:
  VersionHash();
  ~VersionHash();

  void BeginFile(std::string_view name, uint64_t length);
  void Add(std::span<const std::byte> bytes);
  void Add(std::string_view bytes);
  // Sets the model's version and tag.
  void Finish(Model& model) const;

 private:
  XXH3_state_s* state_;
};

// A model without weights and version, its layers in number.
std::unique_ptr<Model> NewModel(std::string name, const ModelConfig& config, Vocabulary vocabulary);

// Sets version and tag of a model that was not loaded: those that its files would have.
void SetVersion(Model& model);

}  // namespace freshet
