// The shape of a small model for tests.
#pragma once

#include "inference/model.h"

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

}  // namespace freshet
