// Whether this instance answers for its share of the work, and if not, why. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace freshet {

class Readiness {
 public:
  using Clock = std::chrono::steady_clock;

  // When a part went on last. GoesOn() waits for nobody.
  class Sign {
   public:
    void GoesOn() { last_.store(Clock::now().time_since_epoch(), std::memory_order_relaxed); }

   private:
    friend class Readiness;
    std::atomic<Clock::duration> last_{Clock::duration{}};  // zero: never
  };

  // A part that told GoesOn() once and then is silent for longer than `patience` is not ready either: a broker or a
  // disk holds it up in the middle of its work.
  explicit Readiness(std::chrono::milliseconds patience = std::chrono::seconds(5)) : patience_(patience) {}

  // `part` (e.g. "worker 0", "model") is not ready because of `reason`.
  void NotReady(const std::string& part, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    reasons_[part] = reason;
  }
  void Ready(const std::string& part) {
    const std::lock_guard lock(mutex_);
    reasons_.erase(part);
  }
  // The part's own, for as long as this lives.
  Sign& SignOf(const std::string& part) {
    const std::lock_guard lock(mutex_);
    return signs_[part];
  }

  // What is missing, "part: reason; …"; empty: ready.
  std::string Missing() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::string> reasons = reasons_;
    for (const auto& [part, sign] : signs_) {
      const auto last = sign.last_.load(std::memory_order_relaxed);
      const auto silent = Clock::now().time_since_epoch() - last;
      if (last == Clock::duration{} || silent <= patience_) continue;
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
      reasons.emplace(part, "has waited for a broker or a disk for " + std::to_string(seconds) + " s");
    }
    std::string missing;
    for (const auto& [part, reason] : reasons) missing += (missing.empty() ? "" : "; ") + part + ": " + reason;
    return missing;
  }

 private:
  const std::chrono::milliseconds patience_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> reasons_;
  std::map<std::string, Sign> signs_;
};

}  // namespace freshet
