// What state costs an event: a look-up, an append in memory with its share of the write, and a user read from disk.
//
// Events come in micro-batches of 256 as in the pipeline; time is per event. Each benchmark checks, outside the timed
// region, that every event it took in is there. FRESHET_BENCH_SEED changes the draw of users.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "state/store.h"

namespace freshet {
namespace {

constexpr size_t kBatch = 256;
constexpr int kBatchesPerApply = 16;  // 4096 events
constexpr size_t kHistory = 197;
constexpr size_t kPlenty = size_t{4} << 30;  // hot bytes: nobody is evicted

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "state_bench: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T& Checked(Result<T>& result) {
  if (!result.ok()) Die(result.error().message());
  return *result;
}

void Check(const Status& status) {
  if (!status.ok()) Die(status.error().message());
}

uint64_t Seed() {
  const char* const text = std::getenv("FRESHET_BENCH_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

class Bench {
 public:
  Bench(int users, size_t hot_bytes) : random_(Seed()) {
    std::string pattern = (std::filesystem::temp_directory_path() / "freshet-bench-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) Die("cannot make " + pattern);
    options_.directory = pattern;
    options_.application = "bench";
    options_.history = kHistory;
    options_.hot_cache_bytes = hot_bytes;
    for (int n = 0; n < users; ++n) ids_.push_back("user-" + std::to_string(n));
    Reopen();
  }
  ~Bench() {
    store_.reset();
    directory_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(options_.directory, ignored);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // What was written goes to table files, and the hot cache is empty.
  void Reopen() {
    store_.reset();
    directory_.reset();
    auto directory = StateDirectory::Open(options_);
    directory_ = std::move(Checked(directory));
    auto store = directory_->OpenPartition(PartitionId{0});
    store_ = std::move(Checked(store));
  }

  // Gives each user `events` events.
  void Fill(int events) {
    store_->SetHotBytes(kPlenty);
    for (size_t first = 0; first < ids_.size(); first += kBatch) {
      users_.assign(ids_.begin() + static_cast<std::ptrdiff_t>(first),
                    ids_.begin() + static_cast<std::ptrdiff_t>(std::min(first + kBatch, ids_.size())));
      const std::span<UserState* const> users = Load();
      for (int round = 0; round < events; ++round) Append(users);
      if (first / kBatch % kBatchesPerApply == 0) Apply();
    }
    Apply();
    store_->SetHotBytes(options_.hot_cache_bytes);
  }

  void DrawUsers() {
    users_.clear();
    for (size_t i = 0; i < kBatch; ++i) users_.push_back(ids_[random_() % ids_.size()]);
  }
  std::span<UserState* const> Load() {
    auto loaded = store_->Load(users_);
    return Checked(loaded);
  }
  void Append(std::span<UserState* const> users) {
    for (UserState* const user : users) {
      const auto n = static_cast<uint64_t>(next_);
      user->Append(Token{ItemHash{n * 0x9E3779B97F4A7C15u}, TypeHash{7}, next_}, Offset{next_}, kUnknownItem);
      ++next_;
    }
  }
  void Apply() { Check(store_->Apply(Offset{next_})); }

  // Every event that was appended is durable, once.
  void CheckNothingLost() {
    Apply();
    int64_t events = 0;
    Check(store_->ForEach([&](const UserState& user) {
      events += user.profile().events;
      return true;
    }));
    if (events != next_) Die("took in " + std::to_string(next_) + " events, found " + std::to_string(events));
  }
  StoreStats Stats() const { return store_->Stats(); }

 private:
  StateOptions options_;
  std::mt19937_64 random_;
  std::vector<std::string> ids_;
  std::vector<std::string_view> users_;
  std::unique_ptr<StateDirectory> directory_;
  std::unique_ptr<UserStateStore> store_;
  int64_t next_ = 0;
};

void LoadHit(benchmark::State& state) {
  Bench bench(static_cast<int>(state.range(0)), kPlenty);
  bench.Fill(2);
  for (auto _ : state) {
    state.PauseTiming();
    bench.DrawUsers();
    state.ResumeTiming();
    benchmark::DoNotOptimize(bench.Load().data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBatch));
  if (bench.Stats().evictions > 0) Die("a user was evicted");
  bench.CheckNothingLost();
}
BENCHMARK(LoadHit)->Arg(1'000)->Arg(10'000)->Arg(200'000);

// Load, append, and every 4096 events Apply.
void AppendHot(benchmark::State& state) {
  Bench bench(static_cast<int>(state.range(0)), kPlenty);
  bench.Fill(2);
  int batches = 0;
  for (auto _ : state) {
    state.PauseTiming();
    bench.DrawUsers();
    state.ResumeTiming();
    bench.Append(bench.Load());
    if (++batches % kBatchesPerApply == 0) bench.Apply();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBatch));
  bench.CheckNothingLost();
}
BENCHMARK(AppendHot)->Arg(1'000)->Arg(10'000)->Arg(200'000);

// The same where next to nobody is in memory: users uniform over a store of `users` with 50 events each.
void AppendCold(benchmark::State& state) {
  Bench bench(static_cast<int>(state.range(0)), size_t{1} << 20);
  bench.Fill(50);
  bench.Reopen();
  int batches = 0;
  for (auto _ : state) {
    state.PauseTiming();
    bench.DrawUsers();
    state.ResumeTiming();
    bench.Append(bench.Load());
    if (++batches % kBatchesPerApply == 0) bench.Apply();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBatch));
  const StoreStats stats = bench.Stats();
  state.counters["hit_share"] = static_cast<double>(stats.hits) / static_cast<double>(stats.hits + stats.misses);
  bench.CheckNothingLost();
}
BENCHMARK(AppendCold)->Arg(100'000);

// Apply alone, per event, of 4096 events of users uniform over 10,000.
void ApplyAlone(benchmark::State& state) {
  Bench bench(10'000, kPlenty);
  bench.Fill(2);
  for (auto _ : state) {
    state.PauseTiming();
    for (int batch = 0; batch < kBatchesPerApply; ++batch) {
      bench.DrawUsers();
      bench.Append(bench.Load());
    }
    state.ResumeTiming();
    bench.Apply();
  }
  state.SetItemsProcessed(state.iterations() * kBatchesPerApply * static_cast<int64_t>(kBatch));
  bench.CheckNothingLost();
}
BENCHMARK(ApplyAlone);

}  // namespace
}  // namespace freshet

BENCHMARK_MAIN();
