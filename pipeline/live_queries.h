// Questions about live state, from the control plane's thread to the workers that own the users, without a lock on the
// hot path.
//
// Every worker has a mailbox; a question goes to all of them, since only the producer of the events knows a user's
// partition. A worker looks at its mailbox once a micro-batch (one relaxed atomic load while it is empty) and answers
// at most kAnswersPerBatch, together, so a flood of questions slows the asker and not the stream. A full mailbox
// refuses at once. Threads: Ask() any; Answer() and Close() the mailbox's worker. Close() every worker before this is
// destroyed: what still waits then is never answered.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"

namespace freshet {

struct LiveQuery {
  enum class Kind { kRecommend, kRank, kShow };

  std::string user_id;
  int k = 0;  // kRecommend: how many items at most
  Kind kind = Kind::kRecommend;
  std::vector<std::string> items = {};  // kRank: what to put in order
};

// A worker's answer as JSON: the recommendation, the order of the given items, or the user's state; nothing where it
// does not hold the user, or an error.
using LiveAnswer = Result<std::optional<std::string>>;

class LiveQueries {
 public:
  static constexpr size_t kMailboxSize = 256;
  static constexpr int kAnswersPerBatch = 16;

  explicit LiveQueries(int workers);
  ~LiveQueries();

  // Asks all workers; `done` is called once: with the first answer that holds the user, as soon as it is there; else,
  // when all have answered, with an error if one of them had one, else with nothing. It runs in the thread of the
  // worker that settled it, or in the asker's where every worker is closed.
  // False, and `done` is never called, where a mailbox is full.
  bool Ask(LiveQuery query, std::function<void(LiveAnswer)> done);

  // An answer to each of some questions, in their order.
  using Answerer = std::function<std::vector<LiveAnswer>(std::span<const LiveQuery* const>)>;
  // Answers what waits for `worker`, at most kAnswersPerBatch. Questions that another worker has settled are dropped
  // without asking `answer`.
  void Answer(int worker, const Answerer& answer);

  // A worker that stopped: what waits there, and whatever comes, is answered "not here".
  void Close(int worker);

  // A worker that begins, after a Close(). Mailboxes are open at first.
  void Open(int worker);

 private:
  class Pending;
  struct Mailbox {
    std::atomic<bool> waiting{false};
    std::mutex mutex;
    std::deque<std::shared_ptr<Pending>> questions;
    bool closed = false;
  };
  static bool HasRoom(Mailbox& mailbox);
  static void Post(Mailbox& mailbox, const std::shared_ptr<Pending>& pending);

  std::mutex asking_;  // one asker at a time, so that room found in every mailbox stays there
  std::vector<std::unique_ptr<Mailbox>> mailboxes_;
};

}  // namespace freshet
