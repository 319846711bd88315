#include "pipeline/serving_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "inference/cached_rows.h"
#include "inference/model_files.h"

namespace freshet {

namespace {

// Says what an event costs with a model of which nothing can be cached: a user's with a full window, the best of a few.
void WarnOfRecomputation(const Model& model, const Engine& engine) {
  constexpr int kTimed = 3;
  KeyValueCache cache;
  std::vector<float> vector(static_cast<size_t>(model.config.dim));
  const auto scratch = engine.MakeScratch(1);
  std::chrono::duration<double, std::milli> best = std::chrono::hours(1);
  for (int i = 0; i < model.config.window + kTimed; ++i) {
    const bool timed = i >= model.config.window;
    const StepRow row{&cache, {}, timed ? vector.data() : nullptr};
    const auto began = std::chrono::steady_clock::now();
    engine.Step({&row, 1}, *scratch);
    if (timed) best = std::min<decltype(best)>(best, std::chrono::steady_clock::now() - began);
  }
  spdlog::warn(
      "model {}: nothing of a SASRec model can be cached: each event computes its user's last {} events anew, in "
      "{:.2f} ms on this machine ({:.0f} events/s for each worker)",
      model.name, model.config.window, best.count(), 1000 / best.count());
}

// Since the epoch; 0 where the file system does not tell.
double WrittenAt(const std::filesystem::path& path) {
  std::error_code unknown;
  const auto time = std::filesystem::last_write_time(path, unknown);
  if (unknown) return 0;
  return std::chrono::duration<double>(std::chrono::file_clock::to_sys(time).time_since_epoch()).count();
}

// Whether a key or value in a cache of fp16 is its largest number, so that what was beyond it is lost.
bool Saturated(const KeyValueCache& cache) {
  constexpr uint16_t kMagnitude = 0x7FFF, kLargest = 0x7BFF;
  std::vector<uint16_t> halves(cache.block_bytes / sizeof(uint16_t));
  return std::any_of(cache.blocks.begin(), cache.blocks.end(), [&](const AlignedBytes& block) {
    std::memcpy(halves.data(), block.get(), cache.block_bytes);
    return std::any_of(halves.begin(), halves.end(), [](uint16_t bits) { return (bits & kMagnitude) == kLargest; });
  });
}

}  // namespace

void ServingModel::MakeEncoders(std::optional<int> protobuf_schema_id) {
  const auto item_ids = model->vocabulary.item_ids();
  json = std::make_unique<const JsonRecommendationEncoder>(model->name, model->version, item_ids);
  if (!protobuf_schema_id) return;
  protobuf =
      std::make_unique<const ProtobufRecommendationEncoder>(model->name, model->version, item_ids, *protobuf_schema_id);
}

Result<ServingModel> ServingModel::Load(const std::filesystem::path& directory, const ServingOptions& options) {
  ServingModel serving;
  ASSIGN_OR_RETURN(serving.model, LoadModel(directory));
  ASSIGN_OR_RETURN(serving.engine, Engine::Make(*serving.model, options.cache_precision));
  ASSIGN_OR_RETURN(serving.ranker, Ranker::Make(*serving.model, options.scoring));
  if (options.scoring && serving.ranker->precision() != *options.scoring) {
    spdlog::warn(
        "model.precision: {}: this processor (AVX-512 VNNI) or dim {} (at most 512) does not allow it, the "
        "catalogue is scored in {}",
        NumberTypeName(*options.scoring), serving.model->config.dim, NumberTypeName(serving.ranker->precision()));
  }
  Status finite = CheckFinite(*serving.model, *serving.engine, *serving.ranker, options.cache_precision);
  if (!finite.ok()) return finite.error().At("model.directory: " + directory.string());
  if (serving.model->config.recomputes()) WarnOfRecomputation(*serving.model, *serving.engine);
  serving.MakeEncoders(options.protobuf_schema_id);
  serving.written_s = WrittenAt(directory / kWeightsFile);
  return serving;
}

Status CheckFinite(const Model& model, const Engine& engine, const Ranker& ranker, CachePrecision precision) {
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
  if (precision == CachePrecision::kFp16 && Saturated(cache)) {
    return Error(ErrorCode::kInvalidArgument,
                 "keys or values are beyond 65504, the largest number of a cache in fp16: set model.cache_precision to "
                 "fp32 or int8");
  }
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
