#include "inference/sasrec_import.h"

#include <algorithm>
#include <map>
#include <utility>

#include "inference/model_config.h"
#include "inference/model_files.h"
#include "inference/safetensors.h"

namespace freshet {
namespace {

using Values = std::vector<float>;

Error Wrong(const std::string& problem) { return Error(ErrorCode::kInvalidArgument, problem); }

size_t Size(int number) { return static_cast<size_t>(number); }

// [rows, columns] to [columns, rows]: PyTorch keeps matrices as [out, in].
Values Transposed(const float* matrix, size_t rows, size_t columns) {
  Values transposed(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column)
      transposed[column * rows + row] = matrix[row * columns + column];
  }
  return transposed;
}

// Tables with as many columns.
struct Embeddings {
  CheckpointTensor items, positions;
};

// A checkpoint's tensors, each taken once.
class Tensors {
 public:
  explicit Tensors(std::vector<CheckpointTensor> tensors) {
    for (CheckpointTensor& tensor : tensors) left_.emplace(tensor.name, std::move(tensor));
  }

  bool Has(const std::string& name) const { return left_.contains(name); }

  Result<Embeddings> TakeEmbeddings(const std::string& items, const std::string& positions) {
    Embeddings read;
    ASSIGN_OR_RETURN(read.items, TakeTable(items));
    ASSIGN_OR_RETURN(read.positions, TakeTable(positions));
    if (read.items.shape[1] == read.positions.shape[1]) return read;
    return Wrong(positions + " is " + ShapeText(read.positions.shape) + ", expected " +
                 std::to_string(read.items.shape[1]) + " columns");
  }

  Status Take(const std::string& name, const std::vector<size_t>& shape, Values& values) {
    const auto found = left_.find(name);
    if (found == left_.end()) return Wrong(name + " is missing, expected " + ShapeText(shape));
    if (found->second.shape != shape) {
      return Wrong(name + " is " + ShapeText(found->second.shape) + ", expected " + ShapeText(shape));
    }
    values = std::move(left_.extract(found).mapped().values);
    return {};
  }

  // A matrix [out, in], or the same as a convolution of width 1, becomes [in, out].
  Status TakeMatrix(const std::string& name, size_t in, size_t out, bool is_convolution, Values& matrix) {
    std::vector<size_t> shape = {out, in};
    if (is_convolution) shape.push_back(1);
    RETURN_IF_ERROR(Take(name, shape, matrix));
    matrix = Transposed(matrix.data(), out, in);
    return {};
  }

  Status CheckAllTaken() const {
    if (left_.empty()) return {};
    return Wrong(left_.begin()->first + " is a tensor that neither layout has there");
  }

 private:
  // [rows, columns], both at least 1.
  Result<CheckpointTensor> TakeTable(const std::string& name) {
    const auto found = left_.find(name);
    if (found == left_.end()) return Wrong(name + " is missing");
    if (found->second.shape.size() != 2) return Wrong(name + " is " + ShapeText(found->second.shape) + ", no table");
    return std::move(left_.extract(found).mapped());
  }

  std::map<std::string, CheckpointTensor> left_;
};

// What is read before the model is made: its shape, and the tables that give it.
struct Tables {
  ModelConfig config;
  Values items, input, positions;
};

int CountLayers(const Tensors& tensors, const std::string& before, const std::string& after) {
  int layers = 0;
  while (tensors.Has(before + std::to_string(layers) + after)) ++layers;
  return layers;
}

// Drops `first` rows from the front, and those after `rows`.
void KeepRows(Values& table, size_t d, size_t first, size_t rows) {
  table.erase(table.begin(), table.begin() + static_cast<ptrdiff_t>(first * d));
  table.resize(rows * d);
}

// Sizes that both layouts give by their tables, `padding_rows` of the item table being no items.
Status SetSizes(const SasrecImport& import, const CheckpointTensor& items, size_t padding_rows, size_t positions,
                ModelConfig& config) {
  if (items.shape[0] < padding_rows + 1 || items.shape[0] > (size_t{1} << 30) || items.shape[1] > 4096) {
    return Wrong(items.name + " is " + ShapeText(items.shape) + ", no table of items");
  }
  config.block = Block::kSasrec;
  config.items = static_cast<int>(items.shape[0] - padding_rows + 1);
  config.event_types = 1;
  config.dim = static_cast<int>(items.shape[1]);
  config.heads = import.heads;
  config.time_bias = false;
  config.similarity = Similarity::kDot;
  config.sasrec.relu = import.relu;
  if (config.heads < 1 || config.dim % config.heads != 0) {
    return Wrong("--heads: " + std::to_string(config.heads) + ", expected a divisor of the checkpoint's " +
                 std::to_string(config.dim) + " columns");
  }
  if (Size(config.items) != import.items.size() + 1) {
    return Wrong("--items: " + std::to_string(import.items.size()) + " ids, expected " +
                 std::to_string(config.items - 1) + " by the checkpoint's " + items.name);
  }
  if (import.window && Size(*import.window) > positions) {
    return Wrong("--window: " + std::to_string(*import.window) + ", expected at most the checkpoint's " +
                 std::to_string(positions) + " positions");
  }
  config.window = import.window.value_or(static_cast<int>(std::min<size_t>(positions, 1 << 16)));
  return {};
}

bool AllZero(const Values& values, size_t count) {
  return std::all_of(values.begin(), values.begin() + static_cast<ptrdiff_t>(count), [](float v) { return v == 0; });
}

// Positions count from 0, and padding is zeroed before each layer; or from 1, row 0 of the table then being the
// padding's own, which training keeps at zero, and padding goes through the layers like an event.
Result<Tables> ReadPmixerTables(Tensors& tensors, const SasrecImport& import) {
  Tables tables;
  ASSIGN_OR_RETURN(Embeddings read, tensors.TakeEmbeddings("item_emb.weight", "pos_emb.weight"));
  auto& [items, positions] = read;
  const size_t d = items.shape[1];
  const bool from_one = positions.shape[0] > 1 && AllZero(positions.values, d);
  const size_t first = from_one ? 1 : 0;
  ModelConfig& config = tables.config;
  RETURN_IF_ERROR(SetSizes(import, items, 1, positions.shape[0] - first, config));
  config.ln_eps = 1e-8;
  config.sasrec.padding = from_one ? Padding::kToken : Padding::kZero;
  if (from_one && !import.norm) {
    return Wrong(
        "--norm: missing, expected query, post or pre: checkpoints with positions from 1 were trained in all three "
        "forms, and do not say in which");
  }
  if (from_one && !AllZero(items.values, d)) return Wrong("item_emb.weight: row 0, the padding's, is not zero");
  if (!from_one && import.norm.value_or(Norm::kQuery) != Norm::kQuery) {
    return Wrong("--norm: expected query, the only form with positions from 0");
  }
  config.sasrec.norm = import.norm.value_or(Norm::kQuery);
  config.layers = CountLayers(tensors, "attention_layernorms.", ".weight");
  tables.items = std::move(items.values);
  tables.positions = std::move(positions.values);
  KeepRows(tables.positions, d, first, Size(config.window));
  return tables;
}

Result<Tables> ReadGsasrecTables(Tensors& tensors, const SasrecImport& import) {
  Tables tables;
  ASSIGN_OR_RETURN(Embeddings read, tensors.TakeEmbeddings("item_embedding.weight", "position_embedding.weight"));
  auto& [items, positions] = read;
  const size_t d = items.shape[1];
  ModelConfig& config = tables.config;
  RETURN_IF_ERROR(SetSizes(import, items, 2, positions.shape[0], config));
  if (import.norm.value_or(Norm::kQuery) != Norm::kQuery) return Wrong("--norm: expected query, as gSASRec has it");
  config.ln_eps = 1e-5;
  config.sasrec.padding = Padding::kNone;
  config.sasrec.scaled_items = false;
  config.sasrec.input_embedding = tensors.Has("output_embedding.weight");
  config.layers = CountLayers(tensors, "transformer_blocks.", ".first_norm.weight");
  tables.items = std::move(items.values);
  if (config.sasrec.input_embedding) {
    tables.input = std::move(tables.items);
    RETURN_IF_ERROR(tensors.Take("output_embedding.weight", items.shape, tables.items));
    KeepRows(tables.input, d, 0, Size(config.items));
  }
  KeepRows(tables.items, d, 0, Size(config.items));
  tables.positions = std::move(positions.values);
  KeepRows(tables.positions, d, 0, Size(config.window));
  return tables;
}

Status TakePmixerLayer(Tensors& tensors, const std::string& l, size_t d, size_t ffn, LayerWeights& layer) {
  const std::string attention = "attention_layers." + l, feed_forward = "forward_layers." + l;
  Values projection, bias;
  RETURN_IF_ERROR(tensors.Take("attention_layernorms." + l + ".weight", {d}, layer.attention_norm));
  RETURN_IF_ERROR(tensors.Take("attention_layernorms." + l + ".bias", {d}, layer.attention_norm_bias));
  RETURN_IF_ERROR(tensors.Take(attention + ".in_proj_weight", {3 * d, d}, projection));
  RETURN_IF_ERROR(tensors.Take(attention + ".in_proj_bias", {3 * d}, bias));
  layer.query = Transposed(projection.data(), d, d);
  layer.projection = Transposed(projection.data() + d * d, 2 * d, d);
  layer.query_bias.assign(bias.begin(), bias.begin() + static_cast<ptrdiff_t>(d));
  layer.projection_bias.assign(bias.begin() + static_cast<ptrdiff_t>(d), bias.end());
  RETURN_IF_ERROR(tensors.TakeMatrix(attention + ".out_proj.weight", d, d, false, layer.out));
  RETURN_IF_ERROR(tensors.Take(attention + ".out_proj.bias", {d}, layer.out_bias));
  RETURN_IF_ERROR(tensors.Take("forward_layernorms." + l + ".weight", {d}, layer.ffn_norm));
  RETURN_IF_ERROR(tensors.Take("forward_layernorms." + l + ".bias", {d}, layer.ffn_norm_bias));
  RETURN_IF_ERROR(tensors.TakeMatrix(feed_forward + ".conv1.weight", d, ffn, true, layer.ffn_in));
  RETURN_IF_ERROR(tensors.Take(feed_forward + ".conv1.bias", {ffn}, layer.ffn_in_bias));
  RETURN_IF_ERROR(tensors.TakeMatrix(feed_forward + ".conv2.weight", ffn, d, true, layer.ffn_out));
  return tensors.Take(feed_forward + ".conv2.bias", {d}, layer.ffn_out_bias);
}

// It has no product after the heads: ours is then the identity.
Status TakeGsasrecLayer(Tensors& tensors, const std::string& l, size_t d, size_t ffn, LayerWeights& layer) {
  const std::string block = "transformer_blocks." + l + ".", attention = block + "multihead_attention.";
  Values keys, values, value_bias;
  RETURN_IF_ERROR(tensors.Take(block + "first_norm.weight", {d}, layer.attention_norm));
  RETURN_IF_ERROR(tensors.Take(block + "first_norm.bias", {d}, layer.attention_norm_bias));
  RETURN_IF_ERROR(tensors.TakeMatrix(attention + "query_proj.weight", d, d, false, layer.query));
  RETURN_IF_ERROR(tensors.Take(attention + "query_proj.bias", {d}, layer.query_bias));
  RETURN_IF_ERROR(tensors.Take(attention + "key_proj.weight", {d, d}, keys));
  RETURN_IF_ERROR(tensors.Take(attention + "key_proj.bias", {d}, layer.projection_bias));
  RETURN_IF_ERROR(tensors.Take(attention + "val_proj.weight", {d, d}, values));
  RETURN_IF_ERROR(tensors.Take(attention + "val_proj.bias", {d}, value_bias));
  keys.insert(keys.end(), values.begin(), values.end());
  layer.projection = Transposed(keys.data(), 2 * d, d);
  layer.projection_bias.insert(layer.projection_bias.end(), value_bias.begin(), value_bias.end());
  layer.out.resize(d * d);
  for (size_t c = 0; c < d; ++c) layer.out[c * d + c] = 1;
  layer.out_bias.resize(d);
  RETURN_IF_ERROR(tensors.Take(block + "second_norm.weight", {d}, layer.ffn_norm));
  RETURN_IF_ERROR(tensors.Take(block + "second_norm.bias", {d}, layer.ffn_norm_bias));
  RETURN_IF_ERROR(tensors.TakeMatrix(block + "dense1.weight", d, ffn, false, layer.ffn_in));
  RETURN_IF_ERROR(tensors.Take(block + "dense1.bias", {ffn}, layer.ffn_in_bias));
  RETURN_IF_ERROR(tensors.TakeMatrix(block + "dense2.weight", ffn, d, false, layer.ffn_out));
  return tensors.Take(block + "dense2.bias", {d}, layer.ffn_out_bias);
}

}  // namespace

Result<std::unique_ptr<const Model>> ImportSasrec(std::vector<CheckpointTensor> checkpoint,
                                                  const SasrecImport& import) {
  Tensors tensors(std::move(checkpoint));
  const bool is_pmixer = tensors.Has("item_emb.weight");
  if (!is_pmixer && !tensors.Has("item_embedding.weight")) {
    return Wrong("neither item_emb.weight, of SASRec.pytorch, nor item_embedding.weight, of gSASRec-pytorch, is there");
  }
  ASSIGN_OR_RETURN(Tables tables, is_pmixer ? ReadPmixerTables(tensors, import) : ReadGsasrecTables(tensors, import));
  ModelConfig& config = tables.config;
  config.ffn_dim = config.dim;  // in both
  Result<ModelConfig> checked = ParseModelConfig(ModelConfigText(config));
  if (!checked.ok()) return checked.error();

  std::vector<std::string> ids = {std::string(kUnknownName)};
  ids.insert(ids.end(), import.items.begin(), import.items.end());
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(std::move(ids), {std::string(kUnknownName)}));
  std::unique_ptr<Model> model = NewModel("imported", config, std::move(vocabulary));
  const size_t d = Size(config.dim), ffn = Size(config.ffn_dim);
  model->item_embedding = std::move(tables.items);
  model->input_embedding = std::move(tables.input);
  model->position_embedding = std::move(tables.positions);
  // Of the padding there, never trained, and of items without a row here.
  for (Values* table : {&model->item_embedding, &model->input_embedding}) {
    std::fill_n(table->begin(), std::min(d, table->size()), 0.0f);
  }
  for (int l = 0; l < config.layers; ++l) {
    LayerWeights& layer = model->layers[Size(l)];
    RETURN_IF_ERROR((is_pmixer ? TakePmixerLayer : TakeGsasrecLayer)(tensors, std::to_string(l), d, ffn, layer));
  }
  const std::string norm = is_pmixer ? "last_layernorm" : "seq_norm";
  RETURN_IF_ERROR(tensors.Take(norm + ".weight", {d}, model->norm));
  RETURN_IF_ERROR(tensors.Take(norm + ".bias", {d}, model->norm_bias));
  RETURN_IF_ERROR(tensors.CheckAllTaken());
  SetVersion(*model);
  return std::unique_ptr<const Model>(std::move(model));
}

}  // namespace freshet
