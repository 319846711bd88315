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

// How a model is served.
struct ServingOptions {
  std::optional<NumberType> scoring = std::nullopt;        // what Ranker::Make() takes
  CachePrecision cache_precision = CachePrecision::kFp32;  // of the engine's keys/values
  // Records of recommendations are Protobuf, see ProtobufRecommendationEncoder; nothing: JSON.
  std::optional<int> protobuf_schema_id = std::nullopt;
};

struct ServingModel {
  std::unique_ptr<const Model> model;
  std::unique_ptr<const Engine> engine;
  std::unique_ptr<const Ranker> ranker;
  std::unique_ptr<const RecommendationEncoder> json;      // of answers over HTTP
  std::unique_ptr<const RecommendationEncoder> protobuf;  // of records; null: they are JSON, too

  double written_s = 0;  // when the weights were written, since the epoch; 0: unknown

  const RecommendationEncoder& records() const { return protobuf != nullptr ? *protobuf : *json; }
  // Makes the encoders of the model.
  void MakeEncoders(std::optional<int> protobuf_schema_id);

  // Also kCorrupt where CheckFinite() fails. Warns where the scoring cannot be had.
  static Result<ServingModel> Load(const std::filesystem::path& directory, const ServingOptions& options = {});
};

// For a pipeline that `serving` outlives.
inline std::shared_ptr<const ServingModel> Borrowed(const ServingModel& serving) {
  return {&serving, [](const ServingModel*) {}};
}

// Takes some events through the model. kCorrupt where finite weights give vectors or scores that are not: it would
// recommend nothing. kInvalidArgument where a cache of the engine's `precision`, fp16, cannot hold the keys and values.
Status CheckFinite(const Model& model, const Engine& engine, const Ranker& ranker,
                   CachePrecision precision = CachePrecision::kFp32);

}  // namespace freshet
