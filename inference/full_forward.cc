#include <algorithm>
#include <cmath>
#include <vector>

#include "inference/engine.h"
#include "inference/sasrec.h"

namespace freshet {
namespace {

double Silu(double y) { return y / (1 + std::exp(-y)); }

// (x - mean) / sqrt(variance + eps), x [d].
std::vector<double> LayerNorm(const double* x, size_t d, double eps) {
  double mean = 0, variance = 0;
  for (size_t c = 0; c < d; ++c) mean += x[c] / static_cast<double>(d);
  for (size_t c = 0; c < d; ++c) variance += (x[c] - mean) * (x[c] - mean) / static_cast<double>(d);
  std::vector<double> y(d);
  for (size_t c = 0; c < d; ++c) y[c] = (x[c] - mean) / std::sqrt(variance + eps);
  return y;
}

// x · W, W [x.size(), columns].
std::vector<double> Multiply(const std::vector<double>& x, const std::vector<float>& matrix, size_t columns) {
  std::vector<double> y(columns);
  for (size_t in = 0; in < x.size(); ++in) {
    for (size_t out = 0; out < columns; ++out) y[out] += x[in] * matrix[in * columns + out];
  }
  return y;
}

// What a query and a key [h] of one head have in common, before biases.
double Score(const ModelConfig& config, const LayerWeights& layer, size_t head, const double* query,
             const double* key) {
  const size_t h = static_cast<size_t>(config.head_dim());
  const bool is_additive = config.block == Block::kTransformer && config.attention == Attention::kAdditive;
  double score = 0;
  for (size_t c = 0; c < h; ++c) {
    score += is_additive ? layer.score[head * h + c] * std::tanh(query[c] + key[c]) : query[c] * key[c];
  }
  const bool is_softmax = config.block == Block::kTransformer && !is_additive;
  return is_softmax ? score / std::sqrt(static_cast<double>(h)) : score;
}

// Scores of one head become what values are summed with: SiLU(s) / C, or softmax.
void Weigh(const ModelConfig& config, std::vector<double>& scores) {
  if (config.block == Block::kHstu) {
    for (double& score : scores) score = Silu(score) / config.scale();
    return;
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - largest);
  for (double& score : scores) score /= sum;
}

// Outputs o [d] of row i's attention over rows i-W+1..i. z [tokens][columns]: projected rows.
std::vector<double> Attend(const ModelConfig& config, const LayerWeights& layer, std::span<const ModelToken> tokens,
                           const std::vector<std::vector<double>>& z, size_t i) {
  const size_t h = static_cast<size_t>(config.head_dim()), window = static_cast<size_t>(config.window);
  const ProjectionColumns columns = ProjectionColumns::Of(config);
  const size_t first = i + 1 >= window ? i + 1 - window : 0;
  std::vector<double> o(static_cast<size_t>(config.dim));
  for (size_t head = 0; head < static_cast<size_t>(config.heads); ++head) {
    std::vector<double> weights;
    for (size_t j = first; j <= i; ++j) {
      double score = layer.bias_pos[head * window + (i - j)];
      if (config.time_bias) {
        const int bucket = TimeBucket(tokens[i].time_s - tokens[j].time_s);
        score += layer.bias_time[head * Model::kTimeBuckets + static_cast<size_t>(bucket)];
      }
      weights.push_back(score +
                        Score(config, layer, head, &z[i][columns.query + head * h], &z[j][columns.key + head * h]));
    }
    Weigh(config, weights);
    for (size_t j = first; j <= i; ++j) {
      for (size_t c = head * h; c < (head + 1) * h; ++c) o[c] += weights[j - first] * z[j][columns.value + c];
    }
  }
  return o;
}

// x += y · W + bias
void Add(double* x, const std::vector<double>& y, const std::vector<float>& matrix, const std::vector<float>& bias) {
  const std::vector<double> product = Multiply(y, matrix, bias.size());
  for (size_t c = 0; c < bias.size(); ++c) x[c] += product[c] + bias[c];
}

// x [d] += (SiLU(gate) ⊙ up) · ffn_out + bias
void FeedForward(const ModelConfig& config, const LayerWeights& layer, double* x) {
  const size_t d = static_cast<size_t>(config.dim), width = static_cast<size_t>(config.ffn_dim);
  std::vector<double> hidden = Multiply(LayerNorm(x, d, config.ln_eps), layer.ffn_in, 2 * width);
  for (size_t f = 0; f < width; ++f) hidden[f] = Silu(hidden[f]) * hidden[width + f];
  hidden.resize(width);
  Add(x, hidden, layer.ffn_out, layer.ffn_out_bias);
}

// z [columns]: key and value become what a cache of this precision keeps of them.
void Quantise(const ModelConfig& config, CachePrecision precision, std::vector<double>& z) {
  const AttentionShape shape{static_cast<size_t>(config.dim), static_cast<size_t>(config.heads), precision};
  const ProjectionColumns columns = ProjectionColumns::Of(config);
  double* const key = &z[columns.key];
  double* const value = &z[columns.value];
  std::vector<float> keys(key, key + shape.dim), values(value, value + shape.dim);
  std::vector<std::byte> layer(shape.layer_bytes());
  plain::StoreKeyValue(shape, keys.data(), values.data(), 0, layer.data());
  plain::LoadKeyValue(shape, layer.data(), 0, keys.data(), values.data());
  std::copy(keys.begin(), keys.end(), key);
  std::copy(values.begin(), values.end(), value);
}

// x [tokens, d] becomes the layer's output.
void ApplyLayer(const ModelConfig& config, const LayerWeights& layer, std::span<const ModelToken> tokens,
                CachePrecision precision, std::vector<double>& x) {
  const size_t d = static_cast<size_t>(config.dim);
  const bool is_hstu = config.block == Block::kHstu;
  std::vector<std::vector<double>> z;
  for (size_t i = 0; i < tokens.size(); ++i) {
    z.push_back(Multiply(LayerNorm(&x[i * d], d, config.ln_eps), layer.projection, ProjectionColumns::Of(config).all));
    if (is_hstu) {
      for (double& value : z.back()) value = Silu(value);
    }
    if (precision != CachePrecision::kFp32) Quantise(config, precision, z.back());
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<double> o = Attend(config, layer, tokens, z, i);
    if (is_hstu) {
      o = LayerNorm(o.data(), d, config.ln_eps);
      for (size_t c = 0; c < d; ++c) o[c] *= z[i][c];
    }
    Add(&x[i * d], o, layer.out, layer.out_bias);
    if (!is_hstu) FeedForward(config, layer, &x[i * d]);
  }
}

std::vector<double> Normalise(const ModelConfig& config, const double* x) {
  const size_t d = static_cast<size_t>(config.dim);
  if (config.similarity == Similarity::kDot) return LayerNorm(x, d, config.ln_eps);
  double squares = 0;
  for (size_t c = 0; c < d; ++c) squares += x[c] * x[c];
  std::vector<double> y(x, x + d);
  for (double& value : y) value /= std::max(std::sqrt(squares), config.norm_eps);
  return y;
}

// Of each token the output of the window that ends with it.
std::vector<float> RecomputeAll(const Model& model, std::span<const ModelToken> tokens) {
  std::vector<ItemRow> items;
  std::vector<float> outputs;
  for (const ModelToken& token : tokens) {
    items.push_back(token.item);
    const size_t rows = std::min(items.size(), static_cast<size_t>(model.config.window));
    const std::vector<float> output = RecomputePlain(model, std::span(items).last(rows));
    outputs.insert(outputs.end(), output.begin(), output.end());
  }
  return outputs;
}

}  // namespace

std::vector<float> FullForward(const Model& model, std::span<const ModelToken> tokens, CachePrecision precision) {
  if (model.config.recomputes()) return RecomputeAll(model, tokens);
  const size_t d = static_cast<size_t>(model.config.dim);
  std::vector<double> x(tokens.size() * d);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float* const item = &model.item_embedding[Raw(tokens[i].item) * d];
    const float* const type = &model.type_embedding[Raw(tokens[i].type) * d];
    for (size_t c = 0; c < d; ++c) x[i * d + c] = std::sqrt(static_cast<double>(d)) * item[c] + type[c];
  }
  for (const LayerWeights& layer : model.layers) ApplyLayer(model.config, layer, tokens, precision, x);
  std::vector<float> outputs;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<double> y = Normalise(model.config, &x[i * d]);
    outputs.insert(outputs.end(), y.begin(), y.end());
  }
  return outputs;
}

}  // namespace freshet
