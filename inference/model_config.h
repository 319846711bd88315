// config.json of a model directory, checked key by key.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "inference/model.h"

namespace freshet {

// As the file has them: "hstu", "softmax", "query", "zero".
std::string_view BlockName(Block block);
std::string_view AttentionName(Attention attention);
std::string_view NormName(Norm norm);
std::string_view PaddingName(Padding padding);

// Errors name the key, the value, and what was expected.
Result<ModelConfig> ParseModelConfig(std::string_view text);

// The same the other way round, one key a line.
std::string ModelConfigText(const ModelConfig& config);

}  // namespace freshet
