#include "pipeline/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <ctime>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace freshet {
namespace {

// A scrape, read as Prometheus would: every line is a HELP, a TYPE or a sample of a family that was declared.
struct Scrape {
  std::map<std::string, std::string> types;
  std::map<std::string, double> samples;  // by name with labels, as written

  explicit Scrape(const std::string& text) {
    static const std::regex help(R"(# HELP ([a-z_]+) \S.*)");
    static const std::regex type(R"(# TYPE ([a-z_]+) (counter|gauge|histogram))");
    static const std::regex sample(
        R"re(([a-z_]+)(\{[a-z_]+="([^"\\\n]|\\["\\n])*"(,[a-z_]+="([^"\\\n]|\\["\\n])*")*\})? (\S+))re");
    std::istringstream lines(text);
    std::set<std::string> helped;
    std::smatch match;
    for (std::string line; std::getline(lines, line);) {
      if (std::regex_match(line, match, help)) {
        EXPECT_TRUE(helped.insert(match[1]).second) << "declared twice: " << line;
      } else if (std::regex_match(line, match, type)) {
        EXPECT_TRUE(helped.contains(match[1])) << "no HELP before: " << line;
        types[match[1]] = match[2];
      } else if (std::regex_match(line, match, sample)) {
        EXPECT_TRUE(Declared(match[1])) << "no TYPE before: " << line;
        const bool is_new = samples.emplace(match[1].str() + match[2].str(), std::stod(match[6])).second;
        EXPECT_TRUE(is_new) << "twice: " << line;
      } else {
        ADD_FAILURE() << "not a line of the format: " << line;
      }
    }
    EXPECT_TRUE(text.ends_with('\n'));
  }

  bool Declared(const std::string& name) const {
    static const std::regex suffix("_(bucket|sum|count)$");
    const std::string family = std::regex_replace(name, suffix, "");
    return types.contains(name) || (types.contains(family) && types.at(family) == "histogram");
  }
  double operator[](const std::string& series) const {
    const auto found = samples.find(series);
    return found == samples.end() ? std::nan("") : found->second;
  }
};

std::unique_ptr<Metrics> MakeMetrics() { return Metrics::Make("1.2.3", {"demo", "9f2c"}); }

TEST(Metrics, SumsOverWorkers) {
  const auto metrics = MakeMetrics();
  for (const int worker : {0, 1}) {
    WorkerMetrics& mine = metrics->Worker(worker);
    EXPECT_EQ(&mine, &metrics->Worker(worker));
    mine.AddEvents(10 + worker);
    mine.AddRepeats(2);
    mine.AddDuplicates(7);
    mine.AddUnknownItems(3);
    mine.AddRecommendations(10);
    mine.AddLists(8, 1 + worker);
    mine.AddDeadLetter("invalid_json");
    mine.SetHotCache(5, 1000, 70, 30, 4);
    mine.SetHotCache(6, 1001, 71, 31, 5);
    mine.SetLag("events", worker, 100 + worker);
    mine.SetAssigned(1);
    mine.SetSnapshotAge(20.5 - worker);
    mine.SetLagSeconds(3.5 + worker);
    mine.SetRestoring(1 + worker, 0.25 * worker);
    mine.SetRebalances(2 + worker);
    mine.AddCommitPart(CommitPart::kOutputs, 0.5);
    mine.AddCommitPart(CommitPart::kState, 0.25 * worker);
    mine.SetDisk({.table_bytes = 100,
                  .memtable_bytes = 10,
                  .pending_compaction_bytes = 7,
                  .stalled = worker,
                  .stall_us = 1'500'000,
                  .block_cache_bytes = 1000 + worker});
  }
  metrics->Worker(1).AddDeadLetter("missing_user_id");
  const Scrape scrape(metrics->Render());
  EXPECT_EQ(scrape["freshet_events_total"], 21);
  EXPECT_EQ(scrape["freshet_repeated_events_total"], 4);
  EXPECT_EQ(scrape["freshet_duplicates_total"], 14);
  EXPECT_EQ(scrape["freshet_unknown_items_total"], 6);
  EXPECT_EQ(scrape["freshet_recommendations_total"], 20);
  EXPECT_EQ(scrape["freshet_lists_total"], 16);
  EXPECT_EQ(scrape["freshet_list_hits_total"], 3);
  EXPECT_EQ(scrape[R"(freshet_dead_letters_total{reason="invalid_json"})"], 2);
  EXPECT_EQ(scrape[R"(freshet_dead_letters_total{reason="missing_user_id"})"], 1);
  EXPECT_EQ(scrape["freshet_hot_cache_users"], 12);
  EXPECT_EQ(scrape["freshet_hot_cache_bytes"], 2002);
  EXPECT_EQ(scrape["freshet_hot_cache_hits_total"], 142);
  EXPECT_EQ(scrape["freshet_hot_cache_misses_total"], 62);
  EXPECT_EQ(scrape["freshet_hot_cache_evictions_total"], 10);
  EXPECT_EQ(scrape[R"(freshet_consumer_lag{topic="events",partition="0"})"], 100);
  EXPECT_EQ(scrape[R"(freshet_consumer_lag{topic="events",partition="1"})"], 101);
  EXPECT_EQ(scrape["freshet_assigned_partitions"], 2);
  EXPECT_EQ(scrape["freshet_snapshot_watermark_age_seconds"], 20.5) << "the highest";
  EXPECT_EQ(scrape["freshet_consumer_lag_seconds"], 4.5) << "likewise";
  EXPECT_EQ(scrape["freshet_restoring_partitions"], 3);
  EXPECT_EQ(scrape["freshet_restore_remaining_ratio"], 0.25) << "likewise";
  EXPECT_EQ(scrape["freshet_rebalances_total"], 5);
  EXPECT_EQ(scrape[R"(freshet_commit_part_seconds_total{part="outputs"})"], 1);
  EXPECT_EQ(scrape[R"(freshet_commit_part_seconds_total{part="state"})"], 0.25);
  EXPECT_EQ(scrape[R"(freshet_commit_part_seconds_total{part="positions"})"], 0);
  EXPECT_EQ(scrape["freshet_rocksdb_table_bytes"], 200);
  EXPECT_EQ(scrape["freshet_rocksdb_memtable_bytes"], 20);
  EXPECT_EQ(scrape["freshet_rocksdb_pending_compaction_bytes"], 14);
  EXPECT_EQ(scrape["freshet_rocksdb_stalled_partitions"], 1);
  EXPECT_EQ(scrape["freshet_rocksdb_stall_seconds_total"], 3);
  EXPECT_EQ(scrape["freshet_rocksdb_block_cache_bytes"], 1001) << "they share it";
}

TEST(Metrics, HistogramsAreCumulative) {
  const auto metrics = MakeMetrics();
  WorkerMetrics& worker = metrics->Worker(0);
  worker.ObserveStage(Stage::kRank, 3e-4, 200);
  worker.ObserveStage(Stage::kRank, 2e-6, 100);
  worker.ObserveStage(Stage::kRank, 5.0, 1);
  worker.ObserveStage(Stage::kRank, 1e-6, 1);  // a bound belongs to its bucket
  worker.ObserveLatency(0.004);
  worker.ObserveLatency(-3);
  worker.ObserveLatency(std::nan(""));
  metrics->Worker(1).ObserveLatency(100);
  const Scrape scrape(metrics->Render());
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_bucket{stage="rank",le="1e-06"})"], 1);
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_bucket{stage="rank",le="2.5e-06"})"], 2);
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_bucket{stage="rank",le="0.0005"})"], 3);
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_bucket{stage="rank",le="1"})"], 3);
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_bucket{stage="rank",le="+Inf"})"], 4);
  EXPECT_EQ(scrape[R"(freshet_stage_seconds_count{stage="rank"})"], 4);
  EXPECT_NEAR(scrape[R"(freshet_stage_seconds_sum{stage="rank"})"], 5.000303, 1e-9);
  EXPECT_EQ(scrape[R"(freshet_stage_events_total{stage="rank"})"], 302);
  EXPECT_EQ(scrape[R"(freshet_event_latency_seconds_bucket{le="0.001"})"], 2);
  EXPECT_EQ(scrape[R"(freshet_event_latency_seconds_bucket{le="0.005"})"], 3);
  EXPECT_EQ(scrape[R"(freshet_event_latency_seconds_bucket{le="60"})"], 3);
  EXPECT_EQ(scrape["freshet_event_latency_seconds_count"], 4);
  for (const std::string_view stage : kStageNames) {
    const std::string series = "freshet_stage_seconds_count{stage=\"" + std::string(stage) + "\"}";
    EXPECT_EQ(scrape.samples.contains(series), true) << series;
  }
}

TEST(Metrics, ReasonsAreBounded) {
  const auto metrics = MakeMetrics();
  for (int i = 0; i < 1000; ++i) metrics->Worker(0).AddDeadLetter("code_" + std::to_string(i));
  const Scrape scrape(metrics->Render());
  size_t reasons = 0;
  for (const auto& [series, _] : scrape.samples) reasons += series.starts_with("freshet_dead_letters_total{");
  EXPECT_EQ(reasons, WorkerMetrics::kMaxReasons + 1);
  EXPECT_EQ(scrape[R"(freshet_dead_letters_total{reason="code_31"})"], 1);
  EXPECT_EQ(scrape[R"(freshet_dead_letters_total{reason="other"})"], 968);
}

TEST(Metrics, LagFollowsTheAssignment) {
  const auto metrics = MakeMetrics();
  WorkerMetrics& worker = metrics->Worker(0);
  worker.SetLag("a", 1, 5);
  worker.SetLag("b", 1, 6);
  worker.SetLag("a", 1, 7);
  worker.DropLag("b", 1);
  worker.DropLag("never", 9);
  const Scrape first(metrics->Render());
  EXPECT_EQ(first[R"(freshet_consumer_lag{topic="a",partition="1"})"], 7);
  EXPECT_FALSE(first.samples.contains(R"(freshet_consumer_lag{topic="b",partition="1"})"));
  worker.DropLag("a", 1);
  metrics->Worker(1).SetLag("a", 1, 8);  // the partition moved to another worker
  EXPECT_EQ(Scrape(metrics->Render())[R"(freshet_consumer_lag{topic="a",partition="1"})"], 8);
}

TEST(Metrics, EscapesWhatOthersNamed) {
  const auto metrics = Metrics::Make("1", {"a\"b\\c\nd", "v"});
  EXPECT_EQ(Scrape(metrics->Render())[R"(freshet_model_info{name="a\"b\\c\nd",version="v"})"], 1);
}

TEST(Metrics, TellsOfTheProcess) {
  const auto metrics = MakeMetrics();
  metrics->SetReady(true);
  metrics->AddHttpResponse(200);
  metrics->AddHttpResponse(404);
  metrics->AddHttpResponse(200);
  metrics->AddRemovedPartition();
  const std::string text = metrics->Render();
  const Scrape scrape(text);
  EXPECT_EQ(scrape["freshet_ready"], 1);
  EXPECT_EQ(scrape["freshet_removed_partitions_total"], 1);
  EXPECT_EQ(scrape[R"(freshet_http_responses_total{status="200"})"], 2);
  EXPECT_EQ(scrape[R"(freshet_http_responses_total{status="404"})"], 1);
  EXPECT_EQ(scrape[R"(freshet_model_info{name="demo",version="9f2c"})"], 1);
  EXPECT_THAT(text, testing::HasSubstr("freshet_build_info{version=\"1.2.3\""));
  EXPECT_GT(scrape["process_resident_memory_bytes"], 1 << 20);
  EXPECT_GT(scrape["process_cpu_seconds_total"], 0);
  EXPECT_GE(scrape["process_open_fds"], 3);
  const double now = static_cast<double>(std::time(nullptr));
  EXPECT_NEAR(scrape["process_start_time_seconds"], now, 130) << "this test runs for seconds only";
}

TEST(Metrics, EveryFamilyIsDocumentedAndNoOther) {
  const Scrape scrape(MakeMetrics()->Render());
  std::ifstream document(FRESHET_DOCS "/metrics.md");
  ASSERT_TRUE(document);
  static const std::regex row(R"(\| `([a-z_]+))");
  std::map<std::string, std::string> documented;
  std::smatch match;
  for (std::string line; std::getline(document, line);) {
    if (!std::regex_search(line, match, row, std::regex_constants::match_continuous)) continue;
    const size_t type = line.find('|', 1) + 2;
    documented[match[1]] = line.substr(type, line.find(' ', type) - type);
  }
  EXPECT_EQ(documented, scrape.types);
}

// What a scrape shows while workers write is whole: never more in a bucket than in the one above it.
TEST(Metrics, ScrapesWhileWorkersWrite) {
  const auto metrics = MakeMetrics();
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back([&, i] {
      WorkerMetrics& worker = metrics->Worker(i);
      for (int n = 0; !stop; ++n) {
        worker.AddEvents(1);
        worker.ObserveLatency(n % 100 * 1e-3);
        worker.AddDeadLetter("code_" + std::to_string(n % 40));
        worker.SetLag("t", n % 64, n);
        if (n % 7 == 0) worker.DropLag("t", n % 64);
      }
    });
  }
  double last = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string text = metrics->Render();
    const std::string key = "\nfreshet_events_total ";
    const double events = std::stod(text.substr(text.find(key) + key.size()));
    EXPECT_GE(events, last);
    last = events;
  }
  stop = true;
  for (auto& worker : workers) worker.join();
  const Scrape scrape(metrics->Render());
  EXPECT_EQ(scrape["freshet_event_latency_seconds_count"], scrape["freshet_events_total"]);
}

}  // namespace
}  // namespace freshet
