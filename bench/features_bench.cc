// What features/ costs an event: hashing its ids into a token, and looking the token up in a model's vocabulary.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "core/hash.h"
#include "features/tokenize.h"

namespace freshet {
namespace {

std::vector<std::string> Names(std::string_view first, int64_t count) {
  std::vector<std::string> names = {std::string(kUnknownName)};
  for (int64_t i = 1; i < count; ++i) names.push_back(std::string(first) + std::to_string(i));
  return names;
}

void Require(bool holds) {
  if (holds) return;
  std::cerr << "features_bench: wrong result\n";
  std::exit(1);
}

void MakeTokens(benchmark::State& state) {
  const std::vector<std::string> items = Names("item-", 4096);
  Event event;
  event.event_type = "view";
  event.timestamp_ms = 1'506'826'800'026;
  size_t next = 0;
  for (auto _ : state) {
    event.item_id = items[++next % items.size()];
    benchmark::DoNotOptimize(MakeToken(event));
  }
  Require(MakeToken(event).item == HashItem(event.item_id));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(MakeTokens);

// By vocabulary size: a large one misses the cache.
void LookUpRows(benchmark::State& state) {
  const Vocabulary vocabulary = Vocabulary::Make(Names("item-", state.range(0)), Names("type-", 5)).value();
  std::vector<Token> tokens;
  for (size_t row = 1; row < vocabulary.item_ids().size(); ++row) {
    tokens.push_back(
        {HashItem(vocabulary.item_ids()[row * 7919 % vocabulary.item_ids().size()]), HashType("type-2"), 0});
  }
  size_t next = 0;
  for (auto _ : state) benchmark::DoNotOptimize(ToModelToken(tokens[++next % tokens.size()], vocabulary));
  Require(ToModelToken(tokens[0], vocabulary).item ==
          ItemRow{static_cast<uint32_t>(7919 % vocabulary.item_ids().size())});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(LookUpRows)->Arg(3417)->Arg(100'000)->Arg(1'000'000);

}  // namespace
}  // namespace freshet

BENCHMARK_MAIN();
