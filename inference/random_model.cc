#include <cassert>
#include <random>
#include <string>
#include <utility>

#include "inference/model.h"
#include "inference/model_files.h"

namespace freshet {
namespace {

std::vector<std::string> Names(std::string_view stem, int count) {
  std::vector<std::string> names = {std::string(kUnknownName)};
  for (int row = 1; row < count; ++row) names.push_back(std::string(stem) + std::to_string(row));
  return names;
}

}  // namespace

std::unique_ptr<const Model> RandomModel(const ModelConfig& config, uint64_t seed) {
  std::vector<std::string> types = Names("type", config.event_types);
  if (types.size() > 1) types[1] = "view";
  Result<Vocabulary> vocabulary = Vocabulary::Make(Names("i", config.items), std::move(types));
  assert(vocabulary.ok());
  std::unique_ptr<Model> model = NewModel("random", config, std::move(*vocabulary));
  std::mt19937_64 random(seed);
  const auto storage = TensorStorage(*model);
  size_t next = 0;
  for (const TensorSpec& spec : TensorSpecs(config)) {
    const bool is_bias = spec.name.find("bias") != spec.name.npos;
    std::normal_distribution<float> normal(0, is_bias ? .02f : .1f);
    size_t count = 1;
    for (const size_t length : spec.shape) count *= length;
    std::vector<float>& values = *storage[next++];
    values.resize(count);
    for (float& value : values) value = normal(random);
    model->parameters += count;
  }
  SetVersion(*model);
  return model;
}

}  // namespace freshet
