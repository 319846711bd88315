// Whether this instance answers for its share of the work, and if not, why. Thread-safe.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace freshet {

class Readiness {
 public:
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
  void GoesOn(const std::string& part) {
    const std::lock_guard lock(mutex_);
    heard_of_[part] = Clock::now();
  }

  // What is missing, "part: reason; …"; empty: ready.
  std::string Missing() const {
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::string> reasons = reasons_;
    for (const auto& [part, when] : heard_of_) {
      const auto silent = Clock::now() - when;
      if (silent <= patience_) continue;
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(silent).count();
      reasons.emplace(part, "has waited for a broker or a disk for " + std::to_string(seconds) + " s");
    }
    std::string missing;
    for (const auto& [part, reason] : reasons) missing += (missing.empty() ? "" : "; ") + part + ": " + reason;
    return missing;
  }

 private:
  using Clock = std::chrono::steady_clock;

  const std::chrono::milliseconds patience_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> reasons_;
  std::map<std::string, Clock::time_point> heard_of_;
};

}  // namespace freshet
