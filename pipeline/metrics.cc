#include "pipeline/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <mutex>
#include <sstream>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "pipeline/worker_instruments.h"

namespace freshet {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

using Labels = std::vector<ClientMetric::Label>;

// The families of one scrape, in the order in which they are added.
class Exposition {
 public:
  ClientMetric& Sample(Labels labels = {}) {
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }
  void Family(MetricType type, std::string name, std::string help) {
    families_.push_back({std::move(name), std::move(help), type, {}});
  }
  template <typename Number>
  void Gauge(std::string name, std::string help, Number value, Labels labels = {}) {
    Family(MetricType::Gauge, std::move(name), std::move(help));
    Sample(std::move(labels)).gauge.value = static_cast<double>(value);
  }
  template <typename Number>
  void Counter(std::string name, std::string help, Number value) {
    Family(MetricType::Counter, std::move(name), std::move(help));
    Sample().counter.value = static_cast<double>(value);
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<MetricFamily> families_;
};

// Seconds since the epoch at which this process started: proc(5), field 22 of /proc/self/stat, in ticks since boot.
double ProcessStartTime() {
  std::ifstream stat("/proc/self/stat");
  std::string text{std::istreambuf_iterator<char>(stat), {}};
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));  // the name may hold blanks
  std::string field;
  for (int number = 3; number <= 22; ++number) fields >> field;
  std::ifstream kernel("/proc/stat");
  std::string key;
  double boot = 0;
  while (kernel >> key && key != "btime") kernel.ignore(1 << 20, '\n');
  kernel >> boot;
  return boot + std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void AddProcess(Exposition& out, double start_time) {
  timespec cpu{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  int64_t pages = 0;
  int64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident_pages;
  std::error_code error;
  int64_t files = -1;  // the one that lists them
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end; it.increment(error)) {
    ++files;
  }
  out.Counter("process_cpu_seconds_total", "User and system CPU time spent.",
              static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) * 1e-9);
  out.Gauge("process_resident_memory_bytes", "Resident memory.", resident_pages * sysconf(_SC_PAGESIZE));
  out.Gauge("process_open_fds", "Open file descriptors.", files);
  out.Gauge("process_start_time_seconds", "Start of the process since the epoch.", start_time);
}

class MetricsImpl : public Metrics {
 public:
  MetricsImpl(std::string_view freshet_version, ModelLabels model)
      : freshet_version_(freshet_version), model_(std::move(model)) {}

  WorkerMetrics& Worker(int worker) override {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<WorkerInstruments>& instruments = workers_[worker];
    if (!instruments) instruments = std::make_unique<WorkerInstruments>();
    return *instruments;
  }

  void AddHttpResponse(int status) override {
    responses_[static_cast<size_t>(std::clamp(status, 0, 599))].fetch_add(1, std::memory_order_relaxed);
  }
  void SetReady(bool ready) override { ready_.Set(ready); }
  void AddRemovedPartition() override { removed_partitions_.fetch_add(1, std::memory_order_relaxed); }
  void SwapModel(ModelLabels model) override {
    const std::lock_guard lock(mutex_);
    model_ = std::move(model);
    ++model_swaps_;
    last_swap_ms_ = WallClockMs();
  }
  void AddRefusedModel() override { model_refusals_.fetch_add(1, std::memory_order_relaxed); }
  ModelLabels Model() const override {
    const std::lock_guard lock(mutex_);
    return model_;
  }

  WorkersStatus Workers() const override {
    using W = WorkerInstruments;
    const std::lock_guard lock(mutex_);
    return {.lags = Lags(),
            .assigned = Sum(&W::assigned),
            .restoring = Sum(&W::restoring),
            .restored_records = Sum(&W::restored),
            .hot_users = Sum(&W::cache_users),
            .hot_bytes = Sum(&W::cache_bytes),
            .hot_hits = Sum(&W::cache_hits),
            .hot_misses = Sum(&W::cache_misses),
            .hot_evictions = Sum(&W::cache_evictions)};
  }

  std::string Render() override {
    Exposition out;
    const std::lock_guard lock(mutex_);
    AddFlow(out);
    AddDeadLetters(out);
    AddStages(out);
    AddCommits(out);
    AddCache(out);
    AddRocksDb(out);
    AddLag(out);
    AddInstance(out);
    AddProcess(out, start_time_);
    return out.Text();
  }

 private:
  int64_t Sum(Cell<int64_t> WorkerInstruments::*cell) const {
    int64_t sum = 0;
    for (const auto& [_, worker] : workers_) sum += (worker.get()->*cell).Get();
    return sum;
  }

  template <typename Number>
  Number Highest(Cell<Number> WorkerInstruments::*cell) const {
    Number highest = 0;
    for (const auto& [_, worker] : workers_) highest = std::max(highest, (worker.get()->*cell).Get());
    return highest;
  }

  void AddFlow(Exposition& out) const {
    using W = WorkerInstruments;
    out.Counter("freshet_events_total", "Events accepted into state.", Sum(&W::events));
    out.Counter("freshet_repeated_events_total", "Events dropped as already applied.", Sum(&W::repeats));
    out.Counter("freshet_duplicates_total", "Events dropped for an event_id seen before.", Sum(&W::duplicates));
    out.Counter("freshet_restored_records_total", "Records of users restored from snapshots.", Sum(&W::restored));
    out.Counter("freshet_snapshot_records_total", "Records written to the snapshot topic.", Sum(&W::snapshots));
    out.Counter("freshet_transaction_aborts_total", "Transactions that came to nothing; their events were read again.",
                Sum(&W::aborts));
    out.Counter("freshet_unknown_items_total", "Events whose item the model does not know.", Sum(&W::unknown_items));
    out.Counter("freshet_forgotten_users_total", "Users forgotten at a tombstone of the input.",
                Sum(&W::forgotten_users));
    out.Counter("freshet_recommendations_total", "Recommendations published.", Sum(&W::recommendations));
    out.Counter("freshet_lists_total", "Events of users whose newest list is in memory.", Sum(&W::lists));
    out.Counter("freshet_list_hits_total", "Those of them whose item is in that list.", Sum(&W::list_hits));
  }

  void AddDeadLetters(Exposition& out) const {
    std::map<std::string, int64_t> totals;
    for (const auto& [_, worker] : workers_) {
      const std::lock_guard lock(worker->growth);
      for (const ReasonCell& reason : worker->reasons) totals[reason.code] += reason.count.Get();
    }
    out.Family(MetricType::Counter, "freshet_dead_letters_total", "Records that are not events, by reason.");
    for (const auto& [reason, total] : totals) {
      out.Sample({{"reason", reason}}).counter.value = static_cast<double>(total);
    }
  }

  void AddStages(Exposition& out) const {
    out.Family(MetricType::Histogram, "freshet_stage_seconds", "Time of a micro-batch in a stage.");
    for (size_t stage = 0; stage < kStageNames.size(); ++stage) {
      ClientMetric& sample = out.Sample({{"stage", std::string(kStageNames[stage])}});
      for (const auto& [_, worker] : workers_) worker->stages[stage].seconds.AddTo(sample.histogram);
    }
    out.Family(MetricType::Counter, "freshet_stage_events_total", "Events that went through a stage.");
    for (size_t stage = 0; stage < kStageNames.size(); ++stage) {
      ClientMetric& sample = out.Sample({{"stage", std::string(kStageNames[stage])}});
      for (const auto& [_, worker] : workers_) {
        sample.counter.value += static_cast<double>(worker->stages[stage].events.Get());
      }
    }
    out.Family(MetricType::Histogram, "freshet_event_latency_seconds",
               "From an event's time to the commit of its recommendation.");
    ClientMetric& latency = out.Sample();
    for (const auto& [_, worker] : workers_) worker->latency.AddTo(latency.histogram);
  }

  void AddCommits(Exposition& out) const {
    out.Family(MetricType::Histogram, "freshet_commit_seconds", "Time of a commit, also of one that came to nothing.");
    ClientMetric& time = out.Sample();
    for (const auto& [_, worker] : workers_) worker->commits.AddTo(time.histogram);
    out.Family(MetricType::Counter, "freshet_commit_part_seconds_total", "Time that commits spent on their parts.");
    for (size_t part = 0; part < kCommitPartNames.size(); ++part) {
      ClientMetric& sample = out.Sample({{"part", std::string(kCommitPartNames[part])}});
      for (const auto& [_, worker] : workers_) sample.counter.value += worker->commit_parts[part].Get();
    }
  }

  void AddRocksDb(Exposition& out) const {
    using W = WorkerInstruments;
    out.Gauge("freshet_rocksdb_table_bytes", "State on disk, in tables.", Sum(&W::table_bytes));
    out.Gauge("freshet_rocksdb_memtable_bytes", "Memory of state that is in no table yet.", Sum(&W::memtable_bytes));
    out.Gauge("freshet_rocksdb_block_cache_bytes", "Memory of the block cache.", Highest(&W::block_cache_bytes));
    out.Gauge("freshet_rocksdb_pending_compaction_bytes", "What compactions that are due have to rewrite.",
              Sum(&W::pending_compaction_bytes));
    out.Gauge("freshet_rocksdb_stalled_partitions", "Partitions whose writes are slowed down or stopped.",
              Sum(&W::stalled));
    out.Counter("freshet_rocksdb_stall_seconds_total", "Time that writes waited for compactions.",
                static_cast<double>(Sum(&W::stall_us)) / 1e6);
  }

  void AddCache(Exposition& out) const {
    using W = WorkerInstruments;
    out.Gauge("freshet_hot_cache_users", "Users in the hot cache.", Sum(&W::cache_users));
    out.Gauge("freshet_hot_cache_bytes", "Memory of the hot cache.", Sum(&W::cache_bytes));
    out.Counter("freshet_hot_cache_hits_total", "Users found in the hot cache.", Sum(&W::cache_hits));
    out.Counter("freshet_hot_cache_misses_total", "Users read from the store.", Sum(&W::cache_misses));
    out.Counter("freshet_hot_cache_evictions_total", "Users that left the hot cache.", Sum(&W::cache_evictions));
  }

  std::vector<WorkersStatus::Lag> Lags() const {
    std::map<std::pair<std::string, int32_t>, int64_t> lags;
    for (const auto& [_, worker] : workers_) {
      const std::lock_guard lock(worker->growth);
      for (const LagCell& lag : worker->lags) {
        if (lag.assigned.Get()) lags[{lag.topic, lag.partition}] = lag.records.Get();
      }
    }
    std::vector<WorkersStatus::Lag> all;
    for (const auto& [key, records] : lags) all.push_back({key.first, key.second, records});
    return all;
  }

  void AddLag(Exposition& out) const {
    out.Family(MetricType::Gauge, "freshet_consumer_lag", "Records of an assigned partition not yet processed.");
    for (const WorkersStatus::Lag& lag : Lags()) {
      const Labels labels = {{"topic", lag.topic}, {"partition", std::to_string(lag.partition)}};
      out.Sample(labels).gauge.value = static_cast<double>(lag.records);
    }
    out.Gauge("freshet_restoring_partitions", "Assigned partitions whose state is being restored from a snapshot.",
              Sum(&WorkerInstruments::restoring));
    out.Gauge("freshet_restore_remaining_ratio", "Share of a snapshot still to be read, where the most is left.",
              Highest(&WorkerInstruments::restore_remaining));
    out.Counter("freshet_rebalances_total", "How often the group gave workers their partitions.",
                Sum(&WorkerInstruments::rebalances));
    out.Gauge("freshet_assigned_partitions", "Partitions assigned to this instance.",
              Sum(&WorkerInstruments::assigned));
    out.Gauge("freshet_consumer_lag_seconds", "Age of the newest event read, of the partition that is furthest behind.",
              Highest(&WorkerInstruments::lag_seconds));
    out.Gauge("freshet_snapshot_watermark_age_seconds", "Since the last watermark, of the partition that lags most.",
              Highest(&WorkerInstruments::snapshot_age));
  }

  void AddInstance(Exposition& out) const {
    out.Counter("freshet_removed_partitions_total", "Lost partitions whose local state was deleted.",
                removed_partitions_.load(std::memory_order_relaxed));
    out.Gauge("freshet_ready", "1 where /readyz answers 200.", ready_.Get());
    out.Family(MetricType::Counter, "freshet_http_responses_total", "Answers of the control plane, by status.");
    for (size_t status = 0; status < responses_.size(); ++status) {
      const uint64_t count = responses_[status].load(std::memory_order_relaxed);
      if (count > 0) out.Sample({{"status", std::to_string(status)}}).counter.value = static_cast<double>(count);
    }
    out.Gauge("freshet_build_info", "1; the version that runs.", 1,
              {{"version", freshet_version_}, {"compiler", __VERSION__}});
    out.Gauge("freshet_model_info", "1; the model that every worker serves.", 1,
              {{"name", model_.name}, {"version", model_.version}});
    out.Gauge("freshet_model_written_timestamp_seconds", "When the weights of the model were written.",
              model_.written_s);
    out.Counter("freshet_model_swaps_total", "Models that took the place of another in this process.", model_swaps_);
    out.Counter("freshet_model_refusals_total", "Models that were not taken up; the one before went on serving.",
                model_refusals_.load(std::memory_order_relaxed));
    out.Gauge("freshet_model_last_swap_timestamp_seconds", "When the last model took the place of another; 0: never.",
              static_cast<double>(last_swap_ms_) / 1000);
  }

  const std::string freshet_version_;
  const double start_time_ = ProcessStartTime();
  std::array<std::atomic<uint64_t>, 600> responses_{};
  std::atomic<int64_t> removed_partitions_{0};
  Cell<bool> ready_;
  std::atomic<int64_t> model_refusals_{0};
  mutable std::mutex mutex_;  // guards what follows, but not the workers' instruments
  std::map<int, std::unique_ptr<WorkerInstruments>> workers_;
  ModelLabels model_;
  int64_t model_swaps_ = 0;
  int64_t last_swap_ms_ = 0;  // since the epoch
};

}  // namespace

std::unique_ptr<Metrics> Metrics::Make(std::string_view freshet_version, ModelLabels model) {
  return std::make_unique<MetricsImpl>(freshet_version, std::move(model));
}

}  // namespace freshet
