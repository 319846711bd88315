#include <algorithm>
#include <cmath>
#include <limits>

#include "inference/sasrec.h"

namespace freshet {
namespace {

using Row = std::vector<double>;

// LN(x) ⊙ weight + bias
Row Normalise(const Row& x, double eps, const std::vector<float>& weight, const std::vector<float>& bias) {
  const auto d = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  for (const double value : x) mean += value / d;
  for (const double value : x) variance += (value - mean) * (value - mean) / d;
  Row y;
  for (size_t c = 0; c < x.size(); ++c) y.push_back((x[c] - mean) / std::sqrt(variance + eps) * weight[c] + bias[c]);
  return y;
}

// x · matrix + bias, matrix [x.size(), bias.size()]
Row Linear(const Row& x, const std::vector<float>& matrix, const std::vector<float>& bias) {
  Row y(bias.begin(), bias.end());
  for (size_t in = 0; in < x.size(); ++in) {
    for (size_t out = 0; out < y.size(); ++out) y[out] += x[in] * matrix[in * y.size() + out];
  }
  return y;
}

Row Sum(const Row& a, const Row& b) {
  Row sum = a;
  for (size_t c = 0; c < a.size(); ++c) sum[c] += b[c];
  return sum;
}

// o [d] of a query over key_values[from..to], each [2d].
Row Attend(const ModelConfig& config, const Row& query, const std::vector<Row>& key_values, size_t from, size_t to) {
  const auto d = static_cast<size_t>(config.dim), h = static_cast<size_t>(config.head_dim());
  Row o(d);
  for (size_t head = 0; head < d; head += h) {
    Row weights;
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (size_t j = from; j <= to; ++j) {
      double score = 0;
      for (size_t c = head; c < head + h; ++c) score += query[c] * key_values[j][c] / std::sqrt(static_cast<double>(h));
      weights.push_back(score);
      largest = std::max(largest, score);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (size_t j = from; j <= to; ++j) {
      for (size_t c = head; c < head + h; ++c) o[c] += weights[j - from] / sum * key_values[j][d + c];
    }
  }
  return o;
}

// What a layer makes of x after attention gave o.
Row Finish(const ModelConfig& config, const LayerWeights& layer, const Row& x, const Row& o) {
  const Norm norm = config.sasrec.norm;
  const auto attention_norm = [&](const Row& row) {
    return Normalise(row, config.ln_eps, layer.attention_norm, layer.attention_norm_bias);
  };
  const auto ffn_norm = [&](const Row& row) {
    return Normalise(row, config.ln_eps, layer.ffn_norm, layer.ffn_norm_bias);
  };
  Row y = Sum(norm == Norm::kQuery ? attention_norm(x) : x, Linear(o, layer.out, layer.out_bias));
  if (norm == Norm::kPost) y = attention_norm(y);
  const Row input = norm == Norm::kPost ? y : ffn_norm(y);
  Row hidden = Linear(input, layer.ffn_in, layer.ffn_in_bias);
  for (double& value : hidden) value = config.sasrec.relu ? std::max(value, 0.0) : value;
  y = Sum(norm == Norm::kQuery ? input : y, Linear(hidden, layer.ffn_out, layer.ffn_out_bias));
  return norm == Norm::kPost ? ffn_norm(y) : y;
}

// x [W][d] becomes the layer's output; the first `missing` rows are no events.
void ApplyLayer(const ModelConfig& config, const LayerWeights& layer, size_t missing, std::vector<Row>& x) {
  const auto normed = [&](const Row& row) {
    return Normalise(row, config.ln_eps, layer.attention_norm, layer.attention_norm_bias);
  };
  const SasrecForm& form = config.sasrec;
  std::vector<Row> queries, key_values, outputs;
  for (const Row& row : x) {
    queries.push_back(Linear(form.norm == Norm::kPost ? row : normed(row), layer.query, layer.query_bias));
    key_values.push_back(Linear(form.norm == Norm::kPre ? normed(row) : row, layer.projection, layer.projection_bias));
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t from = form.padding == Padding::kNone && i >= missing ? missing : 0;
    outputs.push_back(Finish(config, layer, x[i], Attend(config, queries[i], key_values, from, i)));
    if (i < missing && form.padding != Padding::kToken) outputs.back().assign(x[i].size(), 0);
  }
  x = std::move(outputs);
}

}  // namespace

std::vector<float> RecomputePlain(const Model& model, std::span<const ItemRow> items) {
  const ModelConfig& config = model.config;
  const auto d = static_cast<size_t>(config.dim), window = static_cast<size_t>(config.window);
  const size_t missing = window - items.size();
  const std::vector<float>& table = config.sasrec.input_embedding ? model.input_embedding : model.item_embedding;
  std::vector<Row> x(window, Row(d));
  for (size_t i = missing; i < window; ++i) {
    for (size_t c = 0; c < d; ++c) {
      const double item = table[Raw(items[i - missing]) * d + c];
      x[i][c] = (config.sasrec.scaled_items ? std::sqrt(static_cast<double>(d)) : 1) * item;
      x[i][c] += model.position_embedding[i * d + c];
    }
  }
  for (const LayerWeights& layer : model.layers) ApplyLayer(config, layer, missing, x);
  const Row output = Normalise(x.back(), config.ln_eps, model.norm, model.norm_bias);
  return {output.begin(), output.end()};
}

}  // namespace freshet
