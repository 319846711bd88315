// The attention step by shape and the catalogue's scoring with top-k, one thread. Each checks its result against the
// plain twin before anything is timed. "per_row": CPU time of one row (an event, a request).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "inference/engine.h"
#include "inference/kernels.h"
#include "inference/ranker.h"

namespace freshet {
namespace {

constexpr uint64_t kSeed = 20260101;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "inference_bench: wrong result: %s\n", what);
  std::exit(1);
}

ModelConfig Config(int dim, int heads, int layers, int window, int items) {
  ModelConfig config;
  config.items = items;
  config.event_types = 4;
  config.dim = dim;
  config.heads = heads;
  config.layers = layers;
  config.window = window;
  config.temperature = .05;
  return config;
}

void CountPerRow(benchmark::State& state, size_t rows) {
  using benchmark::Counter;
  state.counters["per_row"] = Counter(static_cast<double>(rows), Counter::kIsIterationInvariantRate | Counter::kInvert);
}

ModelToken RandomToken(const ModelConfig& config, int64_t time_s, std::mt19937_64& random) {
  return {ItemRow{static_cast<uint32_t>(random() % static_cast<uint64_t>(config.items))},
          TypeRow{static_cast<uint32_t>(random() % static_cast<uint64_t>(config.event_types))}, time_s};
}

// One user's events in chunks equal the model by the book; of fewer bits, as far as rows that round another way allow.
void CheckStep(const Model& model, const Engine& engine, CachePrecision precision) {
  std::mt19937_64 random(kSeed);
  const size_t d = static_cast<size_t>(model.config.dim), events = static_cast<size_t>(model.config.window) + 20;
  std::vector<ModelToken> tokens;
  int64_t time = 1'000'000;
  for (size_t i = 0; i < events; ++i) tokens.push_back(RandomToken(model.config, time += random() % 10'000, random));
  std::vector<float> outputs(events * d);
  KeyValueCache cache;
  std::vector<StepRow> rows;
  for (size_t i = 0; i < events; ++i) rows.push_back({&cache, tokens[i], &outputs[i * d]});
  const auto scratch = engine.MakeScratch(256);
  engine.Step(rows, *scratch);
  const std::vector<float> expected = FullForward(model, tokens, precision);
  const float tolerance = precision == CachePrecision::kFp32 ? 1e-4f : 1e-2f;
  for (size_t i = 0; i < outputs.size(); ++i) Require(std::abs(outputs[i] - expected[i]) < tolerance, "attention step");
}

// Args: dim, heads, layers, window, rows in the batch, users that take turns, whether outputs are asked for.
void BM_Step(benchmark::State& state, Block block, Attention attention, CachePrecision precision) {
  ModelConfig config = Config(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)),
                              static_cast<int>(state.range(2)), static_cast<int>(state.range(3)), 3416);
  config.block = block;
  config.attention = attention;
  if (block == Block::kTransformer) config.ffn_dim = 2 * config.dim;  // the trainer's default
  const size_t batch = static_cast<size_t>(state.range(4)), users = static_cast<size_t>(state.range(5));
  const size_t d = static_cast<size_t>(config.dim);
  const auto model = RandomModel(config, kSeed);
  const auto engine = Engine::Make(*model, precision).value();
  CheckStep(*model, *engine, precision);
  const auto scratch = engine->MakeScratch(256);
  std::vector<KeyValueCache> caches(users);
  std::vector<float> outputs(batch * d);
  std::mt19937_64 random(kSeed);
  int64_t time = 1'000'000;
  size_t next = 0;
  std::vector<StepRow> rows(batch);
  const auto fill = [&](bool wanted) {
    for (size_t i = 0; i < batch; ++i) {
      rows[i] = {&caches[next++ % users], RandomToken(config, time += random() % 100, random),
                 wanted ? &outputs[i * d] : nullptr};
    }
  };
  for (size_t i = 0; i < users * static_cast<size_t>(config.window); i += batch) {  // full windows
    fill(false);
    engine->Step(rows, *scratch);
  }
  fill(state.range(6) != 0);
  for (auto _ : state) {
    for (StepRow& row : rows) row.cache = &caches[next++ % users];
    engine->Step(rows, *scratch);
    benchmark::DoNotOptimize(outputs.data());
  }
  CountPerRow(state, batch);
}

// Args: dim, items, requests in the batch, k, excluded items of each request.
void BM_TopK(benchmark::State& state, NumberType precision) {
  const ModelConfig config = Config(static_cast<int>(state.range(0)), 2, 1, 8, static_cast<int>(state.range(1)));
  const size_t batch = static_cast<size_t>(state.range(2)), k = static_cast<size_t>(state.range(3));
  const size_t d = static_cast<size_t>(config.dim);
  const auto model = RandomModel(config, kSeed);
  const auto ranker = Ranker::Make(*model, precision).value();
  if (ranker->precision() != precision) return state.SkipWithError("not on this CPU");
  const auto scratch = ranker->MakeScratch(batch);
  std::mt19937_64 random(kSeed);
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(d)));
  std::vector<float> vectors(batch * d);
  for (float& value : vectors) value = normal(random);
  std::vector<std::vector<ItemRow>> excluded(batch);
  std::vector<std::vector<ScoredItem>> top(batch, std::vector<ScoredItem>(k));
  std::vector<RankRequest> requests;
  for (size_t i = 0; i < batch; ++i) {
    for (int64_t e = 0; e < state.range(4); ++e) {
      excluded[i].push_back(ItemRow{static_cast<uint32_t>(random() % static_cast<uint64_t>(config.items))});
    }
    requests.push_back({&vectors[i * d], excluded[i], top[i]});
  }
  ranker->TopK(requests, *scratch);
  std::vector<ScoredItem> expected(k);
  RankRequest plain = {vectors.data(), excluded[0], expected};
  TopKPlain(*model, {&plain, 1});
  Require(plain.found == requests[0].found, "count of items");
  for (size_t i = 0; i < plain.found; ++i) Require(std::abs(expected[i].score - top[0][i].score) < 1e-4, "top-k");
  for (auto _ : state) {
    ranker->TopK(requests, *scratch);
    benchmark::DoNotOptimize(top.data());
  }
  CountPerRow(state, batch);
}

// Of those of HSTU below.
void TransformerShapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"d", "H", "L", "W", "batch", "users", "out"})
      ->Args({64, 2, 4, 50, 256, 16, 1})
      ->Args({64, 2, 4, 50, 256, 5000, 1})
      ->Args({64, 2, 4, 50, 1, 16, 1})
      ->Args({64, 2, 2, 200, 256, 8, 1});
}

// Of caches of fewer bits, beside the same with fp32: users that stay in the processor's caches, and users that do not.
void CacheShapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"d", "H", "L", "W", "batch", "users", "out"})
      ->Args({64, 2, 4, 50, 256, 16, 1})
      ->Args({64, 2, 4, 50, 256, 5000, 1})
      ->Args({128, 4, 4, 50, 256, 8, 1})
      ->Args({128, 4, 4, 50, 256, 5000, 1});
}

constexpr CachePrecision kFp32 = CachePrecision::kFp32, kFp16 = CachePrecision::kFp16, kInt8 = CachePrecision::kInt8;

BENCHMARK_CAPTURE(BM_Step, hstu, Block::kHstu, Attention::kSoftmax, kFp32)
    ->ArgNames({"d", "H", "L", "W", "batch", "users", "out"})
    ->Args({64, 2, 4, 50, 256, 1, 1})
    ->Args({64, 2, 4, 50, 256, 16, 1})
    ->Args({64, 2, 4, 50, 256, 256, 1})
    ->Args({64, 2, 4, 50, 256, 5000, 1})
    ->Args({64, 2, 4, 50, 256, 16, 0})
    ->Args({64, 2, 4, 50, 1, 16, 1})
    ->Args({64, 2, 4, 50, 16, 16, 1})
    ->Args({64, 2, 2, 50, 256, 16, 1})
    ->Args({64, 2, 2, 200, 256, 8, 1})
    ->Args({64, 2, 2, 200, 256, 2500, 1})
    ->Args({128, 4, 4, 50, 256, 8, 1})
    ->Args({128, 4, 4, 50, 256, 5000, 1})
    ->Args({64, 2, 1, 20, 256, 16, 1})
    ->Args({64, 2, 1, 200, 256, 16, 1});
BENCHMARK_CAPTURE(BM_Step, hstu_fp16, Block::kHstu, Attention::kSoftmax, kFp16)->Apply(CacheShapes);
BENCHMARK_CAPTURE(BM_Step, hstu_int8, Block::kHstu, Attention::kSoftmax, kInt8)->Apply(CacheShapes);
BENCHMARK_CAPTURE(BM_Step, softmax, Block::kTransformer, Attention::kSoftmax, kFp32)->Apply(TransformerShapes);
BENCHMARK_CAPTURE(BM_Step, softmax_fp16, Block::kTransformer, Attention::kSoftmax, kFp16)->Apply(TransformerShapes);
BENCHMARK_CAPTURE(BM_Step, softmax_int8, Block::kTransformer, Attention::kSoftmax, kInt8)->Apply(TransformerShapes);
BENCHMARK_CAPTURE(BM_Step, additive, Block::kTransformer, Attention::kAdditive, kFp32)->Apply(TransformerShapes);
BENCHMARK_CAPTURE(BM_Step, additive_fp16, Block::kTransformer, Attention::kAdditive, kFp16)->Apply(TransformerShapes);
BENCHMARK_CAPTURE(BM_Step, additive_int8, Block::kTransformer, Attention::kAdditive, kInt8)->Apply(TransformerShapes);

void TopKShapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"d", "items", "batch", "k", "excluded"})
      ->Args({64, 3416, 1, 100, 200})
      ->Args({64, 3416, 16, 100, 200})
      ->Args({64, 3416, 64, 100, 200})
      ->Args({64, 3416, 256, 100, 200})
      ->Args({64, 3416, 256, 100, 0})
      ->Args({64, 3416, 256, 10, 200})
      ->Args({128, 3416, 256, 100, 200})
      ->Args({64, 10000, 1, 100, 200})
      ->Args({64, 10000, 256, 100, 200})
      ->Args({64, 46034, 256, 100, 200})
      ->Args({64, 100000, 1, 100, 200})
      ->Args({64, 100000, 256, 100, 200})
      ->Args({128, 100000, 256, 100, 200})
      ->Args({64, 1000000, 256, 100, 200});
}

BENCHMARK_CAPTURE(BM_TopK, fp32, NumberType::kFloat32)->Apply(TopKShapes);
BENCHMARK_CAPTURE(BM_TopK, int8, NumberType::kInt8)->Apply(TopKShapes);

}  // namespace
}  // namespace freshet

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("kernels", freshet::KernelTarget());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
