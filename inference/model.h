// A model directory in memory: sizes, weights, vocabulary, version. Formulas and file forms: docs/model-format.md.
//
// Immutable after Load(); any number of threads may read. All matrices are row-major, [in, out], used as y = x · W.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ids.h"
#include "core/result.h"
#include "core/vocabulary.h"
#include "inference/number_types.h"

namespace freshet {

enum class Block { kHstu, kTransformer, kSasrec };
enum class Attention { kSoftmax, kAdditive };  // of a transformer block
enum class Similarity { kCosine, kDot };

// What published SASRec code does in more than one way: docs/model-format.md.
enum class Norm { kQuery, kPost, kPre };      // where its layers normalise
enum class Padding { kNone, kZero, kToken };  // what stands before the events of a user who has fewer than W
struct SasrecForm {
  Norm norm = Norm::kQuery;
  Padding padding = Padding::kZero;
  bool relu = true;
  bool scaled_items = true;      // by √d, where they are events
  bool input_embedding = false;  // events have a table of their own, apart from the items to score
};

// config.json. Defaults are none: the file says everything but what is optional.
struct ModelConfig {
  Block block = Block::kHstu;
  int items = 0;        // rows of the item table, row 0 included
  int event_types = 0;  // rows of the type table, row 0 included
  int dim = 0;          // d; heads must divide it
  int layers = 0;       // L
  int heads = 0;        // H
  int window = 0;       // W: events that a row attends to, itself included
  bool time_bias = true;
  std::optional<double> attention_scale;      // C, of HSTU; absent: W
  Attention attention = Attention::kSoftmax;  // of a transformer block
  int ffn_dim = 0;                            // F, likewise; and of a SASRec block
  SasrecForm sasrec;                          // of a SASRec block
  double ln_eps = 1e-6;
  Similarity similarity = Similarity::kCosine;
  double temperature = 1;  // cosine only
  double norm_eps = 1e-6;

  int head_dim() const { return dim / heads; }
  float scale() const { return static_cast<float>(attention_scale.value_or(window)); }
  // Nothing of one step is of use to the next: its positions begin with the window.
  bool recomputes() const { return block == Block::kSasrec; }
  // Newest tokens that an exact rebuild needs, of the newest output and of the whole key/value ring alike: L(W-1)+1, or
  // the W that a model looks at which recomputes.
  size_t exact_history() const {
    const auto w = static_cast<size_t>(window);
    return recomputes() ? w : static_cast<size_t>(layers) * (w - 1) + 1;
  }
};

// What the other kind of block has is empty.
struct LayerWeights {
  std::vector<float> projection;    // HSTU: uvqk [d, 4d]; transformer: qkv [d, 3d]; SASRec: key_value [d, 2d]
  std::vector<float> out;           // [d, d]
  std::vector<float> out_bias;      // [d]
  std::vector<float> score;         // [H, h]; of additive attention
  std::vector<float> ffn_in;        // [d, 2F]; columns gate, up; SASRec: [d, F]
  std::vector<float> ffn_out;       // [F, d]
  std::vector<float> ffn_out_bias;  // [d]
  std::vector<float> bias_pos;      // [H, W], by events back
  std::vector<float> bias_time;     // [H, 129], by time bucket; empty without time_bias
  // Of SASRec only.
  std::vector<float> query, query_bias;                    // [d, d], [d]
  std::vector<float> projection_bias, ffn_in_bias;         // [2d], [F]
  std::vector<float> attention_norm, attention_norm_bias;  // [d]
  std::vector<float> ffn_norm, ffn_norm_bias;              // [d]
};

// Where each part of a projected row begins; u, of HSTU, is at 0.
struct ProjectionColumns {
  size_t all = 0, query = 0, key = 0, value = 0;

  static ProjectionColumns Of(const ModelConfig& config) {
    const size_t d = static_cast<size_t>(config.dim);
    if (config.block == Block::kHstu) return {.all = 4 * d, .query = 2 * d, .key = 3 * d, .value = d};
    return {.all = 3 * d, .query = 0, .key = d, .value = 2 * d};
  }
};

struct Model {
  static constexpr int kTimeBuckets = 129;

  std::string name;     // the directory's name
  std::string version;  // 16 hexadecimal digits: hash of the four files' content
  ModelTag tag{};       // the same as a number
  ModelConfig config;
  Vocabulary vocabulary;
  std::vector<float> item_embedding;  // [items, d]
  // What it was decoded from, where it was stored as codes: a few bytes a row, so that it can be written again.
  std::optional<ProductCodes> item_codes;
  std::vector<float> type_embedding;  // [event_types, d]; empty for SASRec, which knows items only
  // Of SASRec only.
  std::vector<float> input_embedding;     // [items, d]; empty: item_embedding
  std::vector<float> position_embedding;  // [W, d]
  std::vector<float> norm, norm_bias;     // [d], of the output
  std::vector<LayerWeights> layers;
  size_t parameters = 0;
};

// Loads and checks a model directory. The error names directory, file, and tensor or key, what was found and what was
// expected: a missing file; JSON that is not, unknown or missing keys, sizes out of range; a truncated or corrupt
// safetensors header, a tensor that is absent, unknown, of another dtype or shape, overlapping or beyond the file, NaN
// or infinite, a scale that is not above 0, a code that no centroid has; vocabulary rows that are out of order,
// repeated or colliding, or not as many as config.json says.
Result<std::unique_ptr<const Model>> LoadModel(const std::filesystem::path& directory);

// In what numbers a model directory holds the matrices; whatever else there is, is F32.
struct StoredAs {
  NumberType weights = NumberType::kFloat32;  // projections and feed-forward part
  NumberType items = NumberType::kFloat32;    // the item table, or both
  bool keep_item_codes = true;                // where the model has them: whatever `items` says
};

// Writes the four files of a model directory. Makes the directory where there is none. By default LoadModel()
// reads them back as the same model, version and all (but for the name, which is the directory's).
[[nodiscard]] Status WriteModelDirectory(const Model& model, const std::filesystem::path& directory,
                                         const StoredAs& stored = {});

// A model of this shape with seeded random weights (normal, sd .1, biases .02) and items "i1"..,
// types "view", "type2"..; for
// tests and benchmarks. REQUIRES: the sizes are ones that LoadModel() would accept.
std::unique_ptr<const Model> RandomModel(const ModelConfig& config, uint64_t seed);

}  // namespace freshet
