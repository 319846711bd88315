#include "pipeline/worker.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "pipeline/refusals.h"

namespace freshet {
namespace {

constexpr std::chrono::milliseconds kPollWait{50};
constexpr std::chrono::milliseconds kProgressInterval{100};
constexpr char kNotAssigned[] = "waits for its partitions";

void Add(PipelineCounts& sum, const PipelineCounts& counts) {
  sum.events += counts.events;
  sum.unknown_items += counts.unknown_items;
  sum.forgotten += counts.forgotten;
  sum.repeats += counts.repeats;
  sum.duplicates += counts.duplicates;
  sum.recommendations += counts.recommendations;
  sum.dead_letters += counts.dead_letters;
  sum.lists += counts.lists;
  sum.list_hits += counts.list_hits;
  sum.silent += counts.silent;
  sum.aborts += counts.aborts;
}

// What the workers tell the thread that waits for them.
struct Board {
  // One worker's, so that none waits for another.
  struct alignas(64) Note {
    std::mutex mutex;
    PipelineCounts counts;
    double done = -1;     // share of the input
    bool joined = false;  // has its share of the input
  };

  explicit Board(size_t workers) : notes(workers), running(workers) {}

  std::deque<Note> notes;
  std::atomic<bool> failed{false};
  std::mutex mutex;  // of what follows, for the end of a worker
  std::condition_variable changed;
  size_t running;
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
        note_(board.notes[static_cast<size_t>(index)]),
        part_("worker " + std::to_string(index)),
        sign_(options.readiness == nullptr ? nullptr : &options.readiness->SignOf(part_)) {}

  void Run() {
    const Status status = CatchRefusals([this] { return Work(); });
    if (options_.queries != nullptr) options_.queries->Close(index_);
    if (options_.readiness != nullptr)
      options_.readiness->NotReady(part_, status.ok() ? "stopped" : status.error().message());
    Note();
    const std::lock_guard lock(board_.mutex);
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
    bool read = false;
    for (bool done = false; !done && !stop_ && !board_.failed;) {
      TakeUpModel();
      ASSIGN_OR_RETURN(const PollState state, read ? worker_.pipeline->EmitFinal() : worker_.pipeline->Step(kPollWait));
      Tell();
      done = state == PollState::kEnd && (read || !options_.emit_final);
      read |= state == PollState::kEnd;
    }
    return worker_.pipeline->Close();
  }

  void TakeUpModel() {
    if (options_.model == nullptr || !worker_.pipeline->BetweenCommits()) return;
    if (auto newer = options_.model->Newer(&worker_.pipeline->serving())) worker_.pipeline->Serve(std::move(newer));
  }

  void Tell() {
    if (options_.queries != nullptr) {
      options_.queries->Answer(
          index_, [this](std::span<const LiveQuery* const> queries) { return worker_.pipeline->Answer(queries); });
    }
    TellReadiness();
    Note();
  }

  void Note() {
    const std::optional<double> done = worker_.source->Progress();
    const std::lock_guard lock(note_.mutex);
    note_.counts = worker_.pipeline->counts();
    note_.done = done.value_or(-1);
    note_.joined = worker_.source->Joined();
  }

  void TellReadiness() {
    if (options_.readiness == nullptr) return;
    sign_->GoesOn();
    const char* missing = worker_.pipeline->Missing();  // a partition that is being restored is not joined either
    if (missing == nullptr && !worker_.source->Joined()) missing = kNotAssigned;
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
  Board::Note& note_;
  const std::string part_;
  Readiness::Sign* const sign_;
  const char* missing_ = kNotAssigned;  // what readiness was told last; null: ready
};

// Of all workers.
struct Sum {
  PipelineCounts counts;
  double done = 1;  // of the slowest
  bool joined = true;
};

Sum SumOf(Board& board) {
  Sum sum;
  for (Board::Note& note : board.notes) {
    const std::lock_guard lock(note.mutex);
    Add(sum.counts, note.counts);
    sum.done = std::min(sum.done, note.done);
    sum.joined = sum.joined && note.joined;
  }
  return sum;
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
  Board board(workers.size());
  std::vector<WorkerLoop> loops;
  for (size_t i = 0; i < workers.size(); ++i) {
    loops.emplace_back(workers[i], static_cast<int>(i), stop, options, board);
    if (options.readiness != nullptr) options.readiness->NotReady("worker " + std::to_string(i), kNotAssigned);
  }
  std::vector<std::thread> threads;
  threads.reserve(loops.size());
  const Status started = CatchRefusals([&]() -> Status {
    for (WorkerLoop& loop : loops) threads.emplace_back([&loop] { loop.Run(); });
    return {};
  });

  Tidier tidier(options);
  std::unique_lock lock(board.mutex);
  if (!started.ok()) {
    board.running -= loops.size() - threads.size();
    if (!board.error) board.error = started.error();
    board.failed = true;
  }
  while (board.running > 0) {
    board.changed.wait_for(lock, kProgressInterval);
    lock.unlock();
    const Sum sum = SumOf(board);
    if (options.progress) options.progress(sum.counts, sum.done);
    if (sum.joined && !stop && !board.failed) tidier.Tidy();
    lock.lock();
  }
  lock.unlock();
  for (std::thread& thread : threads) thread.join();
  counts = SumOf(board).counts;
  if (board.error) return *board.error;
  return {};
}

}  // namespace freshet
