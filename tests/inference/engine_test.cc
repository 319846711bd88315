#include "inference/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iostream>
#include <random>
#include <set>

#include "inference/model_config.h"
#include "tests/inference/model_files.h"
#include "tests/inference/precisions.h"
#include "tests/inference/relative_error.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr double kTolerance = 1e-5;

// Times that stand still, tick, jump, and run backwards.
std::vector<ModelToken> RandomTokens(const ModelConfig& config, size_t count, std::mt19937_64& random) {
  std::vector<ModelToken> tokens;
  int64_t time = 1'500'000'000;
  const auto below = [&](uint64_t bound) { return static_cast<int64_t>(random() % bound); };
  for (size_t i = 0; i < count; ++i) {
    switch (random() % 5) {
      case 0:
        break;
      case 1:
        time += below(100);
        break;
      case 2:
        time += below(1'000'000);
        break;
      case 3:
        time -= below(100'000);
        break;
      default:
        time += below(2) == 0 ? below(400'000'000) : below(4'000'000'000) - 3'000'000'000;
    }
    tokens.push_back({ItemRow{static_cast<uint32_t>(below(static_cast<uint64_t>(config.items)))},
                      TypeRow{static_cast<uint32_t>(below(static_cast<uint64_t>(config.event_types)))}, time});
  }
  return tokens;
}

// The worst over rows of [rows, dim].
double WorstRow(const std::vector<float>& a, const std::vector<float>& b, size_t dim) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < b.size(); i += dim) worst = std::max(worst, RelativeError(&a[i], &b[i], dim));
  return worst;
}

struct Fixture {
  explicit Fixture(const ModelConfig& config, uint64_t seed, size_t max_rows = 64,
                   CachePrecision precision = CachePrecision::kFp32)
      : model(RandomModel(config, seed)),
        engine(Engine::Make(*model, precision).value()),
        scratch(engine->MakeScratch(max_rows)) {}

  size_t dim() const { return static_cast<size_t>(model->config.dim); }

  // Outputs [tokens, dim] of taking in the tokens, `chunk` at a time.
  std::vector<float> Run(std::span<const ModelToken> tokens, KeyValueCache& cache, size_t chunk) {
    std::vector<float> outputs(tokens.size() * dim());
    std::vector<StepRow> rows;
    for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({&cache, tokens[i], &outputs[i * dim()]});
    for (size_t i = 0; i < rows.size(); i += chunk) {
      engine->Step(std::span(rows).subspan(i, std::min(chunk, rows.size() - i)), *scratch);
    }
    return outputs;
  }

  std::unique_ptr<const Model> model;
  std::unique_ptr<const Engine> engine;
  std::unique_ptr<Engine::Scratch> scratch;
};

SasrecForm RandomForm(std::mt19937_64& random) {
  SasrecForm form;
  form.norm = static_cast<Norm>(random() % 3);
  form.padding = static_cast<Padding>(random() % 3);
  form.relu = random() % 4 != 0;
  form.scaled_items = random() % 2 == 0;
  form.input_embedding = random() % 2 == 0;
  return form;
}

ModelConfig RandomConfig(std::mt19937_64& random) {
  ModelConfig config = SmallConfig();
  const auto pick = [&](std::initializer_list<int> choices) { return std::data(choices)[random() % choices.size()]; };
  config.layers = pick({1, 2, 3, 4});
  config.heads = pick({1, 2, 4});
  config.dim = config.heads * pick({3, 4, 8, 16, 21, 32});
  config.window = pick({1, 2, 5, 15, 16, 17, 33});
  config.time_bias = random() % 4 != 0;
  config.similarity = random() % 2 == 0 ? Similarity::kCosine : Similarity::kDot;
  if (random() % 2 == 0) config.attention_scale = 1;
  if (random() % 3 != 0) MakeTransformer(config, random() % 2 == 0 ? Attention::kSoftmax : Attention::kAdditive);
  if (random() % 3 == 0) MakeSasrec(config, RandomForm(random));
  config.ffn_dim = config.block == Block::kHstu ? 0 : pick({1, 5, 16, 40, 100});
  return config;
}

std::string Describe(const ModelConfig& config) {
  if (config.block == Block::kSasrec) {
    return "sasrec " + std::string(NormName(config.sasrec.norm)) + " " +
           std::string(PaddingName(config.sasrec.padding)) + " d " + std::to_string(config.dim) + " H " +
           std::to_string(config.heads) + " L " + std::to_string(config.layers) + " W " + std::to_string(config.window);
  }
  const std::string ffn = "transformer F " + std::to_string(config.ffn_dim) + " ";
  return (config.block == Block::kHstu ? "hstu" : ffn + std::string(AttentionName(config.attention))) + " d " +
         std::to_string(config.dim) + " H " + std::to_string(config.heads) + " L " + std::to_string(config.layers) +
         " W " + std::to_string(config.window) + (config.time_bias ? " with time bias" : "");
}

TEST(EngineLaw, EveryPrefixOfTwoHundredUsersEqualsFullForward) {
  std::mt19937_64 random(TestSeed());
  double worst = 0;
  for (int user = 0; user < 200; ++user) {
    const ModelConfig config = RandomConfig(random);
    Fixture f(config, random());
    const size_t window = static_cast<size_t>(config.window);
    const auto tokens = RandomTokens(config, 1 + random() % (3 * window + 5), random);
    KeyValueCache cache;
    const auto stepped = f.Run(tokens, cache, 1);
    const double error = WorstRow(stepped, FullForward(*f.model, tokens), f.dim());
    ASSERT_LE(error, kTolerance) << Describe(config) << ", user " << user;
    worst = std::max(worst, error);
  }
  RecordProperty("worst_relative_error", std::to_string(worst));
  std::cout << "worst relative error " << worst << "\n";
}

// FullForward() over a prefix is the first rows of FullForward() over the whole: causality, which the test above uses.
TEST(EngineLaw, FullForwardOfAPrefixIsAPrefix) {
  std::mt19937_64 random(TestSeed());
  Fixture f(SmallConfig(), 1);
  const auto tokens = RandomTokens(f.model->config, 17, random);
  const auto whole = FullForward(*f.model, tokens);
  for (size_t length = 1; length < tokens.size(); ++length) {
    const auto prefix = FullForward(*f.model, std::span(tokens).first(length));
    EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), whole.begin())) << length;
  }
}

void HoldsFor(const ModelConfig& config, std::mt19937_64& random) {
  Fixture f(config, random(), 256);
  const auto tokens = RandomTokens(config, 3 * static_cast<size_t>(config.window), random);
  KeyValueCache cache;
  EXPECT_LE(WorstRow(f.Run(tokens, cache, 256), FullForward(*f.model, tokens), f.dim()), kTolerance)
      << Describe(config);
}

TEST(EngineLaw, HoldsForTheShapesToShip) {
  std::mt19937_64 random(TestSeed());
  for (const auto& [layers, window, dim, heads] : {std::array{4, 50, 64, 2}, {2, 200, 64, 2}, {4, 50, 128, 4}}) {
    ModelConfig config = SmallConfig();
    config.layers = layers, config.window = window, config.dim = dim, config.heads = heads;
    HoldsFor(config, random);
    for (const Attention attention : {Attention::kSoftmax, Attention::kAdditive}) {
      MakeTransformer(config, attention);
      HoldsFor(config, random);
    }
  }
}

// As a SASRec computes a window anew: in several products, the last of which is short.
TEST(EngineLaw, HoldsForMoreRowsThanOneProductTakes) {
  std::mt19937_64 random(TestSeed());
  ModelConfig config = SmallConfig();
  config.dim = 8, config.window = 300;
  MakeSasrec(config, {.norm = Norm::kPre, .padding = Padding::kToken});
  Fixture f(config, random());
  const auto tokens = RandomTokens(config, 305, random);
  KeyValueCache cache;
  const auto stepped = f.Run(std::span(tokens).first(300), cache, 100);
  const auto last = f.Run(std::span(tokens).subspan(300), cache, 1);
  const std::vector<float> expected = FullForward(*f.model, tokens);
  const auto after = expected.begin() + static_cast<ptrdiff_t>(stepped.size());
  EXPECT_LE(WorstRow(stepped, std::vector<float>(expected.begin(), after), f.dim()), kTolerance);
  EXPECT_LE(WorstRow(last, std::vector<float>(after, expected.end()), f.dim()), kTolerance);
}

TEST(EngineLaw, ChunksEqualSingleSteps) {
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 30; ++i) {
    const ModelConfig config = RandomConfig(random);
    Fixture f(config, random(), 16);
    const auto tokens = RandomTokens(config, 60, random);
    KeyValueCache one_by_one, chunked;
    const auto expected = f.Run(tokens, one_by_one, 1);
    EXPECT_LE(WorstRow(f.Run(tokens, chunked, 1 + random() % 40), expected, f.dim()), kTolerance) << Describe(config);
    EXPECT_EQ(chunked.times_s, one_by_one.times_s);
    EXPECT_EQ(chunked.events, one_by_one.events);
  }
}

TEST(EngineLaw, UsersMixedInABatchDoNotTouchEachOther) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 10; ++round) {
    const ModelConfig config = RandomConfig(random);
    Fixture f(config, random(), 32);
    constexpr size_t kUsers = 9;
    std::vector<std::vector<ModelToken>> tokens(kUsers);
    std::vector<std::vector<float>> outputs(kUsers);
    std::vector<KeyValueCache> caches(kUsers);
    std::vector<size_t> taken(kUsers);
    for (size_t user = 0; user < kUsers; ++user) {
      tokens[user] = RandomTokens(config, 40, random);
      outputs[user].resize(40 * f.dim());
    }
    std::vector<StepRow> rows;
    for (size_t left = kUsers * 40; left > 0;) {
      const size_t user = random() % kUsers;
      if (taken[user] == 40) continue;
      const size_t next = taken[user]++;
      rows.push_back({&caches[user], tokens[user][next], &outputs[user][next * f.dim()]});
      --left;
    }
    f.engine->Step(rows, *f.scratch);
    for (size_t user = 0; user < kUsers; ++user) {
      EXPECT_LE(WorstRow(outputs[user], FullForward(*f.model, tokens[user]), f.dim()), kTolerance) << Describe(config);
    }
  }
}

TEST(EngineLaw, BatchesOfOneAndOf256Agree) {
  std::mt19937_64 random(TestSeed());
  ModelConfig config = SmallConfig();
  config.dim = 64, config.layers = 4, config.window = 50;
  Fixture f(config, 3, 256);
  constexpr size_t kUsers = 256;
  std::vector<KeyValueCache> alone(kUsers), together(kUsers);
  std::vector<float> expected(kUsers * f.dim()), outputs(kUsers * f.dim());
  for (int event = 0; event < 5; ++event) {
    const auto tokens = RandomTokens(config, kUsers, random);
    std::vector<StepRow> rows;
    for (size_t user = 0; user < kUsers; ++user) {
      const StepRow row = {&alone[user], tokens[user], &expected[user * f.dim()]};
      f.engine->Step({&row, 1}, *f.scratch);
      rows.push_back({&together[user], tokens[user], &outputs[user * f.dim()]});
    }
    f.engine->Step(rows, *f.scratch);
    EXPECT_LE(WorstRow(outputs, expected, f.dim()), kTolerance);
  }
}

TEST(EngineLaw, RebuildFromRingHistoryContinuesTheCache) {
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 20; ++i) {
    const ModelConfig config = RandomConfig(random);
    Fixture f(config, random());
    const auto tokens = RandomTokens(config, config.exact_history() + 150, random);
    const size_t cut = tokens.size() - 50;
    KeyValueCache continued, rebuilt;
    f.Run(std::span(tokens).first(cut), continued, 64);
    f.Run(std::span(tokens).subspan(cut - config.exact_history(), config.exact_history()), rebuilt, 64);
    const auto tail = std::span(tokens).subspan(cut);
    const auto expected = f.Run(tail, continued, 7);
    EXPECT_LE(WorstRow(f.Run(tail, rebuilt, 7), expected, f.dim()), kTolerance) << Describe(config);
  }
}

TEST(EngineLaw, ExactHistoryIsWhatTheNewestOutputNeeds) {
  std::mt19937_64 random(TestSeed());
  ModelConfig config = SmallConfig();
  config.layers = 3, config.window = 6;
  Fixture f(config, 5);
  const auto tokens = RandomTokens(config, 60, random);
  const auto newest = [&](size_t history) {
    const auto outputs = FullForward(*f.model, std::span(tokens).last(history));
    return std::vector<float>(outputs.end() - config.dim, outputs.end());
  };
  const auto expected = newest(60);
  EXPECT_EQ(newest(config.exact_history()), expected);
  EXPECT_GT(WorstRow(newest(config.exact_history() - 1), expected, f.dim()), 1e-4);
}

TEST(EngineLaw, RowsWithoutOutputChangeNothingElse) {
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 30; ++i) {
    const ModelConfig config = RandomConfig(random);
    Fixture f(config, random(), 8);
    const auto tokens = RandomTokens(config, 70, random);
    const auto expected = FullForward(*f.model, tokens);
    KeyValueCache cache;
    std::vector<float> outputs(expected.size(), -7);
    std::vector<StepRow> rows;
    for (size_t row = 0; row < tokens.size(); ++row) {
      // Whole chunks without output, whole chunks with it, and mixed ones.
      const bool wanted = row < 16 ? false : row < 24 ? true : random() % 2 == 0;
      rows.push_back({&cache, tokens[row], wanted ? &outputs[row * f.dim()] : nullptr});
    }
    f.engine->Step(rows, *f.scratch);
    for (size_t row = 0; row < rows.size(); ++row) {
      const float* const output = &outputs[row * f.dim()];
      if (rows[row].user_vector == nullptr) {
        EXPECT_EQ(*output, -7);
      } else {
        EXPECT_LE(RelativeError(output, &expected[row * f.dim()], f.dim()), kTolerance) << Describe(config);
      }
    }
  }
}

// What a cache of fewer bits may cost of a vector, and how far the engine may be from FullForward() that rounds in the
// same way: 1e-7 more or less in what is rounded can make a number of it one step more or less. Models of three columns
// feel a step more than those of 64.
struct PrecisionBound {
  CachePrecision precision;
  double to_fp32, to_twin;
};
constexpr PrecisionBound kBoundsToShip[] = {{CachePrecision::kFp16, 3e-3, 1e-3}, {CachePrecision::kInt8, .1, .02}};
constexpr PrecisionBound kBoundsOfAnyShape[] = {{CachePrecision::kFp16, 2e-2, 1e-2}, {CachePrecision::kInt8, .4, .1}};

// The larger error of two, each over its bound.
double HoldsWithin(const PrecisionBound& bound, const ModelConfig& config, size_t events, std::mt19937_64& random) {
  Fixture f(config, random(), 256, bound.precision);
  const auto tokens = RandomTokens(config, events, random);
  KeyValueCache cache;
  const auto stepped = f.Run(tokens, cache, 1 + random() % 40);
  const double error = WorstRow(stepped, FullForward(*f.model, tokens), f.dim());
  const double to_twin = WorstRow(stepped, FullForward(*f.model, tokens, bound.precision), f.dim());
  EXPECT_LE(error, bound.to_fp32) << PrecisionName(bound.precision) << ", " << Describe(config);
  EXPECT_LE(to_twin, bound.to_twin) << PrecisionName(bound.precision) << ", " << Describe(config);
  return std::max(error / bound.to_fp32, to_twin / bound.to_twin);
}

TEST(EngineLaw, HoldsAsFarAsThePrecisionOfTheCacheAllows) {
  std::mt19937_64 random(TestSeed());
  for (const PrecisionBound& bound : kBoundsOfAnyShape) {
    double worst = 0;
    for (int user = 0; user < 100; ++user) {
      const ModelConfig config = RandomConfig(random);
      const size_t events = 1 + random() % (3 * static_cast<size_t>(config.window) + 5);
      worst = std::max(worst, HoldsWithin(bound, config, events, random));
    }
    std::cout << PrecisionName(bound.precision) << ": at worst " << worst << " of what is allowed\n";
  }
}

TEST(EngineLaw, HoldsForTheShapesToShipInEachPrecision) {
  std::mt19937_64 random(TestSeed());
  for (const PrecisionBound& bound : kBoundsToShip) {
    double worst = 0;
    for (const auto& [layers, window, dim, heads] : {std::array{4, 50, 64, 2}, {2, 200, 64, 2}, {4, 50, 128, 4}}) {
      ModelConfig config = SmallConfig();
      config.layers = layers, config.window = window, config.dim = dim, config.heads = heads;
      const size_t events = static_cast<size_t>(window) + 60;
      worst = std::max(worst, HoldsWithin(bound, config, events, random));
      for (const Attention attention : {Attention::kSoftmax, Attention::kAdditive}) {
        MakeTransformer(config, attention);
        worst = std::max(worst, HoldsWithin(bound, config, events, random));
      }
    }
    std::cout << PrecisionName(bound.precision) << ": at worst " << worst << " of what is allowed\n";
  }
}

// The first layer's rows do not depend on what was cached: the ring of an engine of fewer bits holds exactly what the
// plain twin makes of the fp32 engine's.
TEST(Engine, RoundsRowsAsThePlainTwinDoes) {
  std::mt19937_64 random(TestSeed());
  for (const CachePrecision precision : {CachePrecision::kFp16, CachePrecision::kInt8}) {
    for (int i = 0; i < 30; ++i) {
      ModelConfig config = RandomConfig(random);
      if (config.attention == Attention::kAdditive) MakeTransformer(config, Attention::kSoftmax);  // whose keys differ
      const uint64_t seed = random();
      Fixture exact(config, seed), rounded(config, seed, 64, precision);
      const auto tokens = RandomTokens(config, 1 + random() % 90, random);
      KeyValueCache cache, cache_rounded;
      exact.Run(tokens, cache, 64);
      rounded.Run(tokens, cache_rounded, 64);
      AttentionShape shape{exact.dim(), static_cast<size_t>(config.heads), CachePrecision::kFp32};
      std::vector<float> key(exact.dim()), value(exact.dim());
      ASSERT_EQ(cache_rounded.blocks.size(), cache.blocks.size());
      for (size_t block = 0; block < cache.blocks.size(); ++block) {
        shape.precision = precision;
        std::vector<std::byte> expected(shape.layer_bytes());
        for (size_t slot = 0; slot < std::min<size_t>(cache.times_s.size() - block * 16, 16); ++slot) {
          shape.precision = CachePrecision::kFp32;
          plain::LoadKeyValue(shape, cache.blocks[block].get(), slot, key.data(), value.data());
          shape.precision = precision;
          plain::StoreKeyValue(shape, key.data(), value.data(), slot, expected.data());
        }
        ASSERT_EQ(std::memcmp(cache_rounded.blocks[block].get(), expected.data(), expected.size()), 0)
            << Describe(config);
      }
    }
  }
}

TEST(Engine, AnotherPrecisionIsAnotherTag) {
  const auto model = RandomModel(SmallConfig(), 1);
  std::set<ModelTag> tags = {ModelTag{}};
  for (const CachePrecision precision : kPrecisions) tags.insert(Engine::Make(*model, precision).value()->cache_tag());
  EXPECT_EQ(tags.size(), 4u);
  EXPECT_EQ(Engine::Make(*model).value()->cache_tag(), model->tag);
}

TEST(Engine, CacheBytesAreThoseOfTheLayout) {
  ModelConfig config = SmallConfig();
  config.layers = 4, config.window = 50, config.dim = 64, config.heads = 2;
  const auto model = RandomModel(config, 1);
  const auto bytes = [&](CachePrecision precision) { return Engine::Make(*model, precision).value()->CacheBytes(50); };
  const size_t times = 50 * sizeof(int64_t), rows = 4 * 64;  // of four blocks; and layers
  EXPECT_EQ(bytes(CachePrecision::kFp32), rows * 4 * 2 * 64 + times);
  EXPECT_EQ(bytes(CachePrecision::kFp16), rows * 2 * 2 * 64 + times);
  EXPECT_EQ(bytes(CachePrecision::kInt8), rows * (2 * 64 + 2 * 2 * 4) + times);
}

TEST(Engine, TagsTheCacheAndCountsItsBytes) {
  std::mt19937_64 random(TestSeed());
  for (const int window : {1, 5, 16, 20, 50}) {
    ModelConfig config = SmallConfig();
    config.window = window;
    Fixture f(config, 1, 64, kPrecisions[random() % 3]);
    KeyValueCache cache;
    EXPECT_EQ(f.engine->CacheBytes(0), cache.Bytes());
    for (const ModelToken& token : RandomTokens(config, 70, random)) {
      f.Run({&token, 1}, cache, 1);
      ASSERT_EQ(cache.model, f.engine->cache_tag());
      ASSERT_EQ(f.engine->CacheBytes(cache.events), cache.Bytes()) << cache.events;
      ASSERT_EQ(cache.times_s.size(), static_cast<size_t>(std::min<int64_t>(cache.events, window)));
    }
    EXPECT_EQ(cache.events, 70);
  }
}

TEST(Engine, TakesCountersFarBeyondTheWindow) {
  std::mt19937_64 random(TestSeed());
  Fixture f(SmallConfig(), 2);
  const auto tokens = RandomTokens(f.model->config, 200, random);
  KeyValueCache cache, far;
  f.Run(std::span(tokens).first(100), cache, 64);
  f.Run(std::span(tokens).first(100), far, 64);
  far.events += f.model->config.window * (int64_t{1} << 33);
  const auto tail = std::span(tokens).subspan(100);
  EXPECT_EQ(f.Run(tail, far, 64), f.Run(tail, cache, 64));
}

}  // namespace
}  // namespace freshet
