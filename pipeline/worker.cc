#include "pipeline/worker.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace freshet {
namespace {

constexpr std::chrono::milliseconds kPollWait{50};
constexpr std::chrono::milliseconds kProgressInterval{100};
constexpr char kNotAssigned[] = "waits for its partitions";

void Add(PipelineCounts& sum, const PipelineCounts& counts) {
  sum.events += counts.events;
  sum.unknown_items += counts.unknown_items;
  sum.repeats += counts.repeats;
  sum.duplicates += counts.duplicates;
  sum.recommendations += counts.recommendations;
  sum.dead_letters += counts.dead_letters;
  sum.silent += counts.silent;
  sum.aborts += counts.aborts;
}

// What the workers tell the thread that waits for them.
struct Board {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<PipelineCounts> counts;
  std::vector<double> done;  // share of the input
  std::vector<bool> joined;  // has its share of the input
  size_t running = 0;
  std::atomic<bool> failed{false};
  std::optional<Error> error;  // of the first worker that failed
};

class WorkerLoop {
 public:
  WorkerLoop(Worker& worker, int index, const std::atomic<bool>& stop, const WorkerOptions& options, Board& board)
      : worker_(worker),
        index_(index),
        stop_(stop),
        options_(options),
        board_(board),
        part_("worker " + std::to_string(index)) {}

  void Run() {
    const Status status = Work();
    if (options_.queries != nullptr) options_.queries->Close(index_);
    if (options_.readiness != nullptr)
      options_.readiness->NotReady(part_, status.ok() ? "stopped" : status.error().message());
    const std::lock_guard lock(board_.mutex);
    board_.counts[static_cast<size_t>(index_)] = worker_.pipeline->counts();
    if (!status.ok()) {
      if (!board_.error) board_.error = status.error();
      board_.failed = true;
    }
    --board_.running;
    board_.changed.notify_all();
  }

 private:
  Status Work() {
    RETURN_IF_ERROR(worker_.pipeline->Open());
    if (options_.queries != nullptr) options_.queries->Open(index_);
    while (!stop_ && !board_.failed) {
      ASSIGN_OR_RETURN(const PollState state, worker_.pipeline->Step(kPollWait));
      Tell();
      if (state == PollState::kEnd) {
        if (options_.emit_final) RETURN_IF_ERROR(worker_.pipeline->EmitFinal());
        break;
      }
    }
    return worker_.pipeline->Close();
  }

  void Tell() {
    if (options_.queries != nullptr) {
      options_.queries->Answer(index_, [this](const LiveQuery& query) { return worker_.pipeline->Answer(query); });
    }
    TellReadiness();
    const std::optional<double> done = worker_.source->Progress();
    const std::lock_guard lock(board_.mutex);
    board_.counts[static_cast<size_t>(index_)] = worker_.pipeline->counts();
    board_.done[static_cast<size_t>(index_)] = done.value_or(-1);
    board_.joined[static_cast<size_t>(index_)] = worker_.source->Joined();
  }

  void TellReadiness() {
    if (options_.readiness == nullptr) return;
    options_.readiness->GoesOn(part_);
    const char* const missing = !worker_.source->Joined()       ? kNotAssigned
                                : !worker_.pipeline->CaughtUp() ? "takes in events that were answered before"
                                : worker_.pipeline->Failing()   ? "its transactions come to nothing"
                                                                : nullptr;
    if (missing == missing_) return;
    missing_ = missing;
    if (missing == nullptr) {
      options_.readiness->Ready(part_);
    } else {
      options_.readiness->NotReady(part_, missing);
    }
  }

  Worker& worker_;
  const int index_;
  const std::atomic<bool>& stop_;
  const WorkerOptions& options_;
  Board& board_;
  const std::string part_;
  const char* missing_ = kNotAssigned;  // what readiness was told last; null: ready
};

// The sum over workers, and how far the slowest is.
std::pair<PipelineCounts, double> Sum(const Board& board) {
  PipelineCounts sum;
  double done = 1;
  for (size_t i = 0; i < board.counts.size(); ++i) {
    Add(sum, board.counts[i]);
    done = std::min(done, board.done[i]);
  }
  return {sum, done};
}

// Calls options.tidy() when it is due.
class Tidier {
 public:
  explicit Tidier(const WorkerOptions& options) : options_(options) {}

  // REQUIRES: the board's mutex is not held.
  void Tidy() {
    if (!options_.tidy || std::chrono::steady_clock::now() < next_) return;
    options_.tidy();
    next_ = std::chrono::steady_clock::now() + options_.tidy_interval;
  }

 private:
  const WorkerOptions& options_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace

Status RunWorkers(std::vector<Worker>& workers, const std::atomic<bool>& stop, const WorkerOptions& options,
                  PipelineCounts& counts) {
  Board board;
  board.counts.resize(workers.size());
  board.done.resize(workers.size(), -1);
  board.joined.resize(workers.size());
  board.running = workers.size();
  std::vector<WorkerLoop> loops;
  for (size_t i = 0; i < workers.size(); ++i) {
    loops.emplace_back(workers[i], static_cast<int>(i), stop, options, board);
    if (options.readiness != nullptr) options.readiness->NotReady("worker " + std::to_string(i), kNotAssigned);
  }
  std::vector<std::thread> threads;
  for (WorkerLoop& loop : loops) threads.emplace_back([&loop] { loop.Run(); });

  Tidier tidier(options);
  std::unique_lock lock(board.mutex);
  while (board.running > 0) {
    board.changed.wait_for(lock, kProgressInterval);
    const auto [sum, done] = Sum(board);
    const bool joined = std::all_of(board.joined.begin(), board.joined.end(), [](bool one) { return one; });
    lock.unlock();
    if (options.progress) options.progress(sum, done);
    if (joined && !stop && !board.failed) tidier.Tidy();
    lock.lock();
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  counts = Sum(board).first;
  if (board.error) return *board.error;
  return {};
}

}  // namespace freshet
