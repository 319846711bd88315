// The shape of a small model for tests, and one whose items are codes.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <utility>

#include "inference/model_files.h"

namespace freshet {

// A shape that is quick to compute; tests change what they are about.
inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.items = 50;
  config.event_types = 4;
  config.dim = 16;
  config.layers = 2;
  config.heads = 2;
  config.window = 5;
  config.temperature = .05;
  return config;
}

inline void MakeTransformer(ModelConfig& config, Attention attention) {
  config.block = Block::kTransformer;
  config.attention_scale.reset();
  config.attention = attention;
  config.ffn_dim = 2 * config.dim;
}

inline void MakeSasrec(ModelConfig& config, const SasrecForm& form) {
  config.block = Block::kSasrec;
  config.attention_scale.reset();
  config.ffn_dim = 2 * config.dim;
  config.time_bias = false;
  config.similarity = Similarity::kDot;
  config.sasrec = form;
}

// RandomModel() with an item table of `parts` parts, each one of `centroids`.
inline std::unique_ptr<const Model> RandomModelWithCodes(const ModelConfig& config, uint64_t seed, size_t parts,
                                                         size_t centroids) {
  auto model = std::make_unique<Model>(*RandomModel(config, seed));
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, .1f);
  ProductCodes items{.parts = parts, .centroid_count = centroids};
  items.codes.resize(static_cast<size_t>(config.items) * parts);
  for (uint8_t& code : items.codes) code = static_cast<uint8_t>(random() % centroids);
  items.centroids.resize(centroids * static_cast<size_t>(config.dim));
  for (float& value : items.centroids) value = normal(random);
  model->item_embedding = DecodeProduct(items);
  model->item_codes = std::move(items);
  SetVersion(*model);
  return model;
}

}  // namespace freshet
