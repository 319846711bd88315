// What ingest/ costs an event: reading a log file, decoding JSON and CSV, encoding a record of k items.
//
// The work is seeded. Each benchmark checks its result against nlohmann-json or the generated events, untimed.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "ingest/decoder.h"
#include "ingest/encoder.h"
#include "ingest/log_files.h"

namespace freshet {
namespace {

constexpr int kEvents = 4096;
constexpr const char* kHeader = "user_id,item_id,event_type,timestamp,event_id";

void Require(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "ingest_bench: wrong result: " << what << "\n";
  std::exit(1);
}

struct Sample {
  std::string user, item;
  int64_t time;

  std::string Json() const {
    return R"({"user_id":")" + user + R"(","item_id":")" + item + R"(","event_type":"view","timestamp":)" +
           std::to_string(time) + R"(,"event_id":"e)" + user + "\"}";
  }
  std::string Csv() const { return user + "," + item + ",view," + std::to_string(time) + ",e" + user; }
};

std::vector<Sample> Samples() {
  std::mt19937_64 random(1);
  std::vector<Sample> samples;
  for (int i = 0; i < kEvents; ++i) {
    samples.push_back({"u" + std::to_string(random() % 1'000'000), "i" + std::to_string(random() % 5'000),
                       int64_t{1'500'000'000'000} + static_cast<int64_t>(random() % 1'000'000'000)});
  }
  return samples;
}

void Decode(benchmark::State& state, RecordFormat format) {
  const std::vector<Sample> samples = Samples();
  DecoderOptions options;
  options.format = format;
  const auto decoder = MakeDecoder(options).value();
  RecordBatch batch;
  size_t bytes = 0;
  for (const Sample& sample : samples) {
    RawRecord& record = batch.records.emplace_back();
    record.value = batch.arena.Copy(format == RecordFormat::kJson ? sample.Json() : sample.Csv());
    if (format == RecordFormat::kCsv) record.header = kHeader;
    bytes += record.value.size();
  }
  Arena arena;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto result = decoder->Decode(batch.records[i], arena);
    const auto* const event = std::get_if<Event>(&result);
    Require(event != nullptr && event->user_id == samples[i].user && event->item_id == samples[i].item &&
                event->timestamp_ms == samples[i].time,
            "decoded event");
  }
  for (auto _ : state) {
    arena.Reset();
    for (const RawRecord& record : batch.records) benchmark::DoNotOptimize(decoder->Decode(record, arena));
  }
  state.SetItemsProcessed(state.iterations() * kEvents);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}
BENCHMARK_CAPTURE(Decode, json, RecordFormat::kJson);
BENCHMARK_CAPTURE(Decode, csv, RecordFormat::kCsv);

void Encode(benchmark::State& state) {
  const auto k = static_cast<size_t>(state.range(0));
  std::mt19937_64 random(1);
  std::normal_distribution<float> score(0.3f, 0.5f);
  std::vector<std::string> ids{"[unknown]"};
  for (int i = 1; i < 3417; ++i) ids.push_back(std::to_string(i));
  const JsonRecommendationEncoder encoder("demo", "9f2c1c0ffee1", ids);
  std::vector<std::vector<ScoredItem>> answers(64);
  for (auto& answer : answers) {
    for (size_t i = 0; i < k; ++i)
      answer.push_back({ItemRow{static_cast<uint32_t>(1 + random() % 3416)}, score(random)});
  }
  Recommendation recommendation;
  recommendation.user_id = "u123456";
  recommendation.generated_at_ms = recommendation.event_time_ms = 1506826800026;
  recommendation.sequence_number = 17;
  recommendation.topic = "freshet.events";
  recommendation.offset = Offset{4711};
  std::string out;
  for (const auto& answer : answers) {
    recommendation.items = answer;
    out.clear();
    encoder.Encode(recommendation, out);
    const auto read = nlohmann::json::parse(out);
    Require(read.at("items").size() == k, "number of items");
    for (size_t i = 0; i < k; ++i) {
      Require(read["items"][i]["item_id"] == ids[Raw(answer[i].row)], "item");
      Require(read["items"][i]["score"].get<float>() == answer[i].score, "score");
    }
  }
  size_t at = 0;
  for (auto _ : state) {
    recommendation.items = answers[at++ % answers.size()];
    out.clear();
    encoder.Encode(recommendation, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(out.size()));
}
BENCHMARK(Encode)->Arg(10)->Arg(20)->Arg(100)->Arg(500);

class NoState : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment&) override { return std::optional<Offset>(); }
  Status OnRevoked(PartitionId, bool) override { return {}; }
};

// A million lines of about a hundred bytes, from the page cache.
void ReadLogFile(benchmark::State& state) {
  constexpr int64_t kLines = 1'000'000;
  const std::vector<std::filesystem::path> paths{std::filesystem::temp_directory_path() /
                                                 ("freshet-bench-" + std::to_string(getpid()))};
  const std::vector<Sample> samples = Samples();
  {
    std::ofstream file(paths[0]);
    for (int64_t i = 0; i < kLines; ++i) file << samples[static_cast<size_t>(i % kEvents)].Json() << '\n';
  }
  const auto log = CommitLog::Open("", paths).value();
  for (auto _ : state) {
    LogFileOptions options;
    options.paths = paths;
    const auto source = MakeLogFileSource(options, *log);
    NoState listener;
    Require(source->Open(listener).ok(), "open");
    RecordBatch batch;
    int64_t records = 0;
    for (PollState polled = PollState::kMore; polled == PollState::kMore;) {
      batch.Clear();
      polled = source->Poll(batch, 256, std::chrono::milliseconds(0)).value();
      records += static_cast<int64_t>(batch.records.size());
    }
    Require(records == kLines, "number of records");
  }
  std::filesystem::remove(paths[0]);
  state.SetItemsProcessed(state.iterations() * kLines);
}
BENCHMARK(ReadLogFile)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace freshet

BENCHMARK_MAIN();
