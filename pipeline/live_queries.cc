#include "pipeline/live_queries.h"

#include <utility>

namespace freshet {

// One question on its way: how many workers have yet to answer it, and what the asker hears.
class LiveQueries::Pending {
 public:
  Pending(LiveQuery query, std::function<void(LiveAnswer)> done, int workers)
      : query_(std::move(query)), outstanding_(workers), done_(std::move(done)) {}

  const LiveQuery& query() const { return query_; }

  bool Settled() const {
    const std::lock_guard lock(mutex_);
    return !done_;
  }

  // A worker's answer; it settles the question where it holds the user or is the last.
  void Resolve(LiveAnswer answer) {
    std::function<void(LiveAnswer)> done;
    {
      const std::lock_guard lock(mutex_);
      --outstanding_;
      if (!done_) return;
      if (!answer.ok()) error_ = answer.error();
      const bool found = answer.ok() && answer.value().has_value();
      if (!found && outstanding_ > 0) return;
      if (!found && error_) answer = *error_;
      done = std::exchange(done_, nullptr);
    }
    done(std::move(answer));
  }

 private:
  const LiveQuery query_;
  mutable std::mutex mutex_;
  int outstanding_;
  std::function<void(LiveAnswer)> done_;  // empty once called
  std::optional<Error> error_;
};

LiveQueries::LiveQueries(int workers) {
  for (int i = 0; i < workers; ++i) mailboxes_.push_back(std::make_unique<Mailbox>());
}

LiveQueries::~LiveQueries() = default;

bool LiveQueries::HasRoom(Mailbox& mailbox) {
  const std::lock_guard lock(mailbox.mutex);
  return mailbox.closed || mailbox.questions.size() < kMailboxSize;
}

void LiveQueries::Post(Mailbox& mailbox, const std::shared_ptr<Pending>& pending) {
  {
    const std::lock_guard lock(mailbox.mutex);
    if (!mailbox.closed) {
      mailbox.questions.push_back(pending);
      mailbox.waiting.store(true, std::memory_order_relaxed);
      return;
    }
  }
  pending->Resolve(LiveAnswer(std::nullopt));
}

bool LiveQueries::Ask(LiveQuery query, std::function<void(LiveAnswer)> done) {
  const int workers = static_cast<int>(mailboxes_.size());
  const auto pending = std::make_shared<Pending>(std::move(query), std::move(done), workers + 1);
  {
    const std::lock_guard lock(asking_);
    for (const auto& mailbox : mailboxes_) {
      if (!HasRoom(*mailbox)) return false;
    }
    for (const auto& mailbox : mailboxes_) Post(*mailbox, pending);
  }
  pending->Resolve(
      LiveAnswer(std::nullopt));  // the asker's own share, so that without any worker the question is settled too
  return true;
}

void LiveQueries::Answer(int worker, const Answerer& answer) {
  Mailbox& mailbox = *mailboxes_[static_cast<size_t>(worker)];
  if (!mailbox.waiting.load(std::memory_order_relaxed)) return;
  std::vector<std::shared_ptr<Pending>> batch;
  {
    const std::lock_guard lock(mailbox.mutex);
    while (batch.size() < kAnswersPerBatch && !mailbox.questions.empty()) {
      std::shared_ptr<Pending> pending = std::move(mailbox.questions.front());
      mailbox.questions.pop_front();
      if (!pending->Settled()) batch.push_back(std::move(pending));
    }
    mailbox.waiting.store(!mailbox.questions.empty(), std::memory_order_relaxed);
  }
  if (batch.empty()) return;
  std::vector<const LiveQuery*> queries;
  for (const auto& pending : batch) queries.push_back(&pending->query());
  std::vector<LiveAnswer> answers = answer(queries);
  for (size_t i = 0; i < batch.size(); ++i) batch[i]->Resolve(std::move(answers[i]));
}

void LiveQueries::Open(int worker) {
  Mailbox& mailbox = *mailboxes_[static_cast<size_t>(worker)];
  const std::lock_guard lock(mailbox.mutex);
  mailbox.closed = false;
}

void LiveQueries::Close(int worker) {
  Mailbox& mailbox = *mailboxes_[static_cast<size_t>(worker)];
  std::deque<std::shared_ptr<Pending>> questions;
  {
    const std::lock_guard lock(mailbox.mutex);
    mailbox.closed = true;
    questions.swap(mailbox.questions);
    mailbox.waiting.store(false, std::memory_order_relaxed);
  }
  for (const auto& pending : questions) pending->Resolve(LiveAnswer(std::nullopt));
}

}  // namespace freshet
