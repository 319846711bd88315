// The body of an answer that goes on: server-sent events (HTML Standard, 9.2), as Response::stream.
//
// The server asks for what to send when it can be sent: at once, and after each Wake(). What waits for a slow client
// takes no memory, and what it gets is what is newest then.
// Threads: Wake() any; the rest the server's, but the destructor may run where a connection or a Response ends.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace freshet::http {

class EventStream {
 public:
  virtual ~EventStream() = default;

  // There may be something to send. Waits for nobody.
  void Wake() {
    if (woken_.exchange(true)) return;
    const std::lock_guard lock(mutex_);
    if (wake_) wake_();
  }

  // The server's part: from Attach() on Wake() calls `wake`, once until the next Take(); an empty one detaches it.
  void Attach(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
  }
  std::optional<std::string> Take() {
    woken_ = false;
    return Next();
  }

 private:
  // Whole events; "": none now; nothing: there will be none any more, which ends the answer. Must not block.
  virtual std::optional<std::string> Next() = 0;

  std::atomic<bool> woken_{false};
  std::mutex mutex_;
  std::function<void()> wake_;
};

}  // namespace freshet::http
