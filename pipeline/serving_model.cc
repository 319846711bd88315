#include "pipeline/serving_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace freshet {

Result<ServingModel> ServingModel::Load(const std::filesystem::path& directory, std::optional<NumberType> scoring,
                                        CachePrecision cache_precision) {
  ServingModel serving;
  ASSIGN_OR_RETURN(serving.model, LoadModel(directory));
  ASSIGN_OR_RETURN(serving.engine, Engine::Make(*serving.model, cache_precision));
  ASSIGN_OR_RETURN(serving.ranker, Ranker::Make(*serving.model, scoring));
  if (scoring && serving.ranker->precision() != *scoring) {
    spdlog::warn(
        "model.precision: {}: this processor (AVX-512 VNNI) or dim {} (at most 512) does not allow it, the "
        "catalogue is scored in {}",
        NumberTypeName(*scoring), serving.model->config.dim, NumberTypeName(serving.ranker->precision()));
  }
  Status finite = CheckFinite(*serving.model, *serving.engine, *serving.ranker);
  if (!finite.ok()) return finite.error().At("model.directory: " + directory.string());
  serving.encoder = std::make_unique<const RecommendationEncoder>(serving.model->name, serving.model->version,
                                                                  serving.model->vocabulary.item_ids());
  return serving;
}

Status CheckFinite(const Model& model, const Engine& engine, const Ranker& ranker) {
  constexpr size_t kEvents = 16;
  const auto dim = static_cast<size_t>(model.config.dim);
  const auto items = static_cast<size_t>(model.config.items);
  KeyValueCache cache;
  std::vector<float> vectors(kEvents * dim);
  std::vector<StepRow> rows;
  std::vector<const float*> users;
  for (size_t i = 0; i < kEvents; ++i) {
    users.push_back(&vectors[i * dim]);
    const auto type = static_cast<uint32_t>(i % static_cast<size_t>(model.config.event_types));
    const ModelToken token{ItemRow{static_cast<uint32_t>(i * items / kEvents)}, TypeRow{type}, int64_t{1} << (2 * i)};
    rows.push_back({&cache, token, &vectors[i * dim]});
  }
  engine.Step(rows, *engine.MakeScratch(kEvents));
  const auto is_finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(vectors.begin(), vectors.end(), is_finite)) {
    return Error(ErrorCode::kCorrupt, "a user's vector is not finite: its weights, finite as they are, overflow");
  }
  std::vector<float> scores(items);
  ranker.ScoreAll({&users.back(), 1}, scores.data(), *ranker.MakeScratch(1));
  if (std::all_of(scores.begin(), scores.end(), is_finite)) return {};
  return Error(ErrorCode::kCorrupt, "scores of items are not finite: the item embedding overflows");
}

}  // namespace freshet
