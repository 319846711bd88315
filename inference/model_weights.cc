// model.safetensors: which tensors it must hold, and their values, whatever numbers they are stored in.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "inference/model_config.h"
#include "inference/model_files.h"

namespace freshet {
namespace {

Error Refuse(const std::string& problem) {
  return Error(ErrorCode::kInvalidArgument, problem + "; file " + std::string(kWeightsFile));
}

std::string ScaleName(const std::string& tensor) { return tensor + std::string(kScaleSuffix); }

std::vector<size_t> ScaleShape(const TensorSpec& spec) {
  return {*spec.scale_axis == ScaleAxis::kRows ? spec.shape[0] : spec.shape[1]};
}

// The tensors of a file by name, taken out as they are checked.
using Entries = std::map<std::string_view, const TensorEntry*>;

// "NAME is missing" or what it is.
std::string FoundText(std::string_view name, const Entries& entries) {
  const auto entry = entries.find(name);
  if (entry == entries.end()) return std::string(name) + " is missing";
  return std::string(name) + " is " + entry->second->type + " " + ShapeText(entry->second->shape);
}

// `types`: those allowed.
Status TakeTensor(const std::string& name, const std::vector<size_t>& shape, const std::string& meaning,
                  const std::vector<std::string>& types, Entries& entries, std::string& type) {
  const auto entry = entries.find(name);
  const bool found = entry != entries.end();
  const bool allowed = found && std::find(types.begin(), types.end(), entry->second->type) != types.end();
  const std::string expected = allowed                       ? entry->second->type
                               : !found || types.size() == 1 ? types[0]
                                                             : "F32, BF16 or I8";
  const std::string wanted = "expected " + expected + " " + ShapeText(shape) + " (" + meaning + ")";
  if (!allowed || entry->second->shape != shape) return Refuse(FoundText(name, entries) + ", " + wanted);
  type = entry->second->type;
  entries.erase(entry);
  return {};
}

Status TakeTensorAndScale(const TensorSpec& spec, Entries& entries) {
  std::vector<std::string> types = {"F32"};
  if (spec.scale_axis) types = {"F32", "BF16", "I8"};
  std::string type;
  RETURN_IF_ERROR(
      TakeTensor(spec.name, spec.shape, std::string(spec.meaning) + " by config.json", types, entries, type));
  if (type != "I8") return {};
  const std::string what = *spec.scale_axis == ScaleAxis::kRows ? "row" : "column";
  return TakeTensor(ScaleName(spec.name), ScaleShape(spec), "a scale for each " + what + " of a tensor in I8", {"F32"},
                    entries, type);
}

// The item table where it is stored as codes.
Status TakeItemCodes(const ModelConfig& config, Entries& entries) {
  constexpr size_t kMostCentroids = 256;
  const auto find = [&](std::string_view name) {
    const auto entry = entries.find(name);
    return entry == entries.end() ? nullptr : entry->second;
  };
  const TensorEntry *const codes = find(kItemCodes), *const centroids = find(kItemCentroids);
  const std::string name(codes != nullptr ? kItemCodes : kItemCentroids), table(kItemTable);
  if (config.block == Block::kSasrec) return Refuse(name + " is no tensor of a model of SASRec, expected " + table);
  if (find(kItemTable) != nullptr) return Refuse(name + " and " + table + " are both there, expected one of them");

  const size_t items = static_cast<size_t>(config.items), dim = static_cast<size_t>(config.dim);
  if (codes == nullptr || codes->type != "U8" || codes->shape.size() != 2 || codes->shape[0] != items ||
      codes->shape[1] == 0 || dim % codes->shape[1] != 0) {
    return Refuse(FoundText(kItemCodes, entries) + ", expected U8 [" + std::to_string(items) +
                  ", M] ([items, parts] by config.json, M a divisor of dim " + std::to_string(dim) + ")");
  }
  const size_t parts = codes->shape[1], width = dim / parts;
  if (centroids == nullptr || centroids->type != "F32" || centroids->shape.size() != 3 ||
      centroids->shape[0] != parts || centroids->shape[1] == 0 || centroids->shape[1] > kMostCentroids ||
      centroids->shape[2] != width) {
    return Refuse(FoundText(kItemCentroids, entries) + ", expected F32 [" + std::to_string(parts) + ", C, " +
                  std::to_string(width) + "] ([parts, centroids, dim / parts], C from 1 to 256)");
  }
  entries.erase(kItemCodes);
  entries.erase(kItemCentroids);
  return {};
}

// The first value that `is_good` does not hold for, as an error.
template <typename IsGood>
Status CheckValues(const std::string& name, std::span<const float> values, const std::string& expected,
                   IsGood is_good) {
  const auto bad = std::find_if_not(values.begin(), values.end(), is_good);
  if (bad == values.end()) return {};
  const std::string value = std::isnan(*bad) ? "NaN" : std::isinf(*bad) ? "infinite" : std::to_string(*bad);
  return Error(ErrorCode::kCorrupt, name + "[" + std::to_string(bad - values.begin()) + "] is " + value + expected +
                                        "; file " + std::string(kWeightsFile));
}

Status CheckFinite(const std::string& name, std::span<const float> values) {
  return CheckValues(name, values, "", [](float value) { return std::isfinite(value); });
}

// One tensor's numbers as they stand, of I8 without their scales.
Status ReadNumbers(SafetensorsFile& file, const TensorEntry& tensor, VersionHash& hash, std::vector<float>& values) {
  if (tensor.type == "F32") {
    values.resize((tensor.end - tensor.begin) / sizeof(float));
    RETURN_IF_ERROR(file.Read(tensor, std::as_writable_bytes(std::span(values))));
    hash.Add(std::as_bytes(std::span(values)));
    return CheckFinite(tensor.name, values);
  }
  std::vector<std::byte> bytes(tensor.end - tensor.begin);
  RETURN_IF_ERROR(file.Read(tensor, bytes));
  hash.Add(bytes);
  if (tensor.type == "I8") {
    values.resize(bytes.size());
    std::transform(bytes.begin(), bytes.end(), values.begin(),
                   [](std::byte code) { return static_cast<float>(static_cast<int8_t>(code)); });
    return {};
  }
  values.resize(bytes.size() / sizeof(uint16_t));
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t number = 0;
    std::memcpy(&number, &bytes[i * sizeof number], sizeof number);
    values[i] = FromBf16(number);
  }
  return CheckFinite(tensor.name, values);
}

// values: codes yet.
Status ApplyScales(const TensorSpec& spec, const std::vector<float>& scales, std::vector<float>& values) {
  RETURN_IF_ERROR(CheckValues(ScaleName(spec.name), scales, ", expected a finite number above 0",
                              [](float scale) { return std::isfinite(scale) && scale > 0; }));
  const size_t columns = spec.shape[1];
  const bool by_row = *spec.scale_axis == ScaleAxis::kRows;
  for (size_t i = 0; i < values.size(); ++i) values[i] *= scales[by_row ? i / columns : i % columns];
  return CheckFinite(spec.name, values);
}

Status ReadCodes(SafetensorsFile& file, const TensorEntry& tensor, VersionHash& hash, ProductCodes& items) {
  items.parts = tensor.shape[1];
  items.codes.resize(tensor.end - tensor.begin);
  const auto bytes = std::as_writable_bytes(std::span(items.codes));
  RETURN_IF_ERROR(file.Read(tensor, bytes));
  hash.Add(bytes);
  return {};
}

Status DecodeItems(ProductCodes items, Model& model) {
  const auto bad =
      std::find_if(items.codes.begin(), items.codes.end(), [&](uint8_t code) { return code >= items.centroid_count; });
  if (bad != items.codes.end()) {
    return Error(ErrorCode::kCorrupt, std::string(kItemCodes) + "[" + std::to_string(bad - items.codes.begin()) +
                                          "] is " + std::to_string(*bad) + ", expected a code below " +
                                          std::to_string(items.centroid_count) + "; file " + std::string(kWeightsFile));
  }
  model.item_embedding = DecodeProduct(items);
  model.item_codes = std::move(items);
  return {};
}

}  // namespace

Status CheckTensors(const ModelConfig& config, const SafetensorsFile& file) {
  Entries entries;
  for (const TensorEntry& entry : file.tensors()) entries.emplace(entry.name, &entry);
  const bool has_codes = entries.contains(kItemCodes) || entries.contains(kItemCentroids);
  for (const TensorSpec& spec : TensorSpecs(config)) {
    const bool as_codes = has_codes && spec.name == kItemTable;
    RETURN_IF_ERROR(as_codes ? TakeItemCodes(config, entries) : TakeTensorAndScale(spec, entries));
  }
  if (entries.empty()) return {};
  const std::string problem = std::string(entries.begin()->first) + " is no tensor of a model with " +
                              std::to_string(config.layers) + " layers";
  if (config.block == Block::kSasrec) return Refuse(problem + " of SASRec");
  const bool is_transformer = config.block == Block::kTransformer;
  return Refuse(problem + (is_transformer ? " of " + std::string(AttentionName(config.attention)) + " attention" : "") +
                (config.time_bias ? "" : " and without time_bias"));
}

Status ReadWeights(SafetensorsFile& file, Model& model, VersionHash& hash) {
  const std::vector<TensorSpec> specs = TensorSpecs(model.config);
  const auto storage = TensorStorage(model);
  std::map<std::string_view, std::vector<float>*> destinations;
  std::map<std::string, std::vector<float>> scales;
  ProductCodes items;
  for (size_t i = 0; i < specs.size(); ++i) destinations.emplace(specs[i].name, storage[i]);
  destinations.emplace(kItemCentroids, &items.centroids);
  hash.BeginFile(kWeightsFile, file.file_bytes());
  hash.Add(file.header());
  for (const TensorEntry& tensor : file.tensors()) {
    if (tensor.name == kItemCodes) {
      RETURN_IF_ERROR(ReadCodes(file, tensor, hash, items));
      continue;
    }
    if (tensor.name == kItemCentroids) items.centroid_count = tensor.shape[1];
    const auto destination = destinations.find(tensor.name);
    const bool is_scale = destination == destinations.end();
    RETURN_IF_ERROR(ReadNumbers(file, tensor, hash, is_scale ? scales[tensor.name] : *destination->second));
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto found = scales.find(ScaleName(specs[i].name));
    if (found != scales.end()) RETURN_IF_ERROR(ApplyScales(specs[i], found->second, *storage[i]));
  }
  if (items.parts > 0) RETURN_IF_ERROR(DecodeItems(std::move(items), model));
  for (const std::vector<float>* const values : storage) model.parameters += values->size();
  return {};
}

}  // namespace freshet
