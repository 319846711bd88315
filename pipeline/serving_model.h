// A loaded model with everything that is prepared from it once and shared by all workers.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "core/result.h"
#include "inference/engine.h"
#include "inference/model.h"
#include "inference/ranker.h"
#include "ingest/encoder.h"

namespace freshet {

struct ServingModel {
  std::unique_ptr<const Model> model;
  std::unique_ptr<const Engine> engine;
  std::unique_ptr<const Ranker> ranker;
  std::unique_ptr<const RecommendationEncoder> encoder;

  // Also kCorrupt where CheckFinite() fails. `scoring`: what Ranker::Make() takes; warns where it cannot be had.
  // `cache_precision`: of the engine's keys/values.
  static Result<ServingModel> Load(const std::filesystem::path& directory,
                                   std::optional<NumberType> scoring = std::nullopt,
                                   CachePrecision cache_precision = CachePrecision::kFp32);
};

// For a pipeline that `serving` outlives.
inline std::shared_ptr<const ServingModel> Borrowed(const ServingModel& serving) {
  return {&serving, [](const ServingModel*) {}};
}

// Takes some events through the model. kCorrupt where finite weights give vectors or scores that are not: it would
// recommend nothing.
Status CheckFinite(const Model& model, const Engine& engine, const Ranker& ranker);

}  // namespace freshet
