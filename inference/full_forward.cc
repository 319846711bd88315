#include <algorithm>
#include <cmath>
#include <vector>

#include "inference/engine.h"

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

// Outputs o [d] of row i's attention over rows i-W+1..i. z [tokens][4d]: u, v, q, k.
std::vector<double> Attend(const ModelConfig& config, const LayerWeights& layer, std::span<const ModelToken> tokens,
                           const std::vector<std::vector<double>>& z, size_t i) {
  const size_t d = static_cast<size_t>(config.dim), h = static_cast<size_t>(config.head_dim());
  const size_t window = static_cast<size_t>(config.window);
  std::vector<double> o(d);
  for (size_t head = 0; head < static_cast<size_t>(config.heads); ++head) {
    for (size_t j = i + 1 >= window ? i + 1 - window : 0; j <= i; ++j) {
      double score = layer.bias_pos[head * window + (i - j)];
      if (config.time_bias) {
        const int bucket = TimeBucket(tokens[i].time_s - tokens[j].time_s);
        score += layer.bias_time[head * Model::kTimeBuckets + static_cast<size_t>(bucket)];
      }
      for (size_t c = head * h; c < (head + 1) * h; ++c) score += z[i][2 * d + c] * z[j][3 * d + c];
      const double weight = Silu(score) / config.scale();
      for (size_t c = head * h; c < (head + 1) * h; ++c) o[c] += weight * z[j][d + c];
    }
  }
  return o;
}

// x [tokens, d] becomes the layer's output.
void ApplyLayer(const ModelConfig& config, const LayerWeights& layer, std::span<const ModelToken> tokens,
                std::vector<double>& x) {
  const size_t d = static_cast<size_t>(config.dim);
  std::vector<std::vector<double>> z;
  for (size_t i = 0; i < tokens.size(); ++i) {
    z.push_back(Multiply(LayerNorm(&x[i * d], d, config.ln_eps), layer.uvqk, 4 * d));
    for (double& value : z.back()) value = Silu(value);
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<double> o = Attend(config, layer, tokens, z, i);
    std::vector<double> gated = LayerNorm(o.data(), d, config.ln_eps);
    for (size_t c = 0; c < d; ++c) gated[c] *= z[i][c];
    const std::vector<double> y = Multiply(gated, layer.out, d);
    for (size_t c = 0; c < d; ++c) x[i * d + c] += y[c] + layer.out_bias[c];
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

}  // namespace

std::vector<float> FullForward(const Model& model, std::span<const ModelToken> tokens) {
  const size_t d = static_cast<size_t>(model.config.dim);
  std::vector<double> x(tokens.size() * d);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const float* const item = &model.item_embedding[Raw(tokens[i].item) * d];
    const float* const type = &model.type_embedding[Raw(tokens[i].type) * d];
    for (size_t c = 0; c < d; ++c) x[i * d + c] = std::sqrt(static_cast<double>(d)) * item[c] + type[c];
  }
  for (const LayerWeights& layer : model.layers) ApplyLayer(model.config, layer, tokens, x);
  std::vector<float> outputs;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<double> y = Normalise(model.config, &x[i * d]);
    outputs.insert(outputs.end(), y.begin(), y.end());
  }
  return outputs;
}

}  // namespace freshet
