// Whether this instance answers for its share of the work, and if not, why. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace freshet {

class Readiness {
 public:
  // `part` (e.g. "worker 0", "model") is not ready because of `reason`.
  void NotReady(const std::string& part, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    reasons_[part] = reason;
  }
  void Ready(const std::string& part) {
    const std::lock_guard lock(mutex_);
    reasons_.erase(part);
  }
  // What is missing, "part: reason; …"; empty: ready.
  std::string Missing() const {
    const std::lock_guard lock(mutex_);
    std::string missing;
    for (const auto& [part, reason] : reasons_) missing += (missing.empty() ? "" : "; ") + part + ": " + reason;
    return missing;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> reasons_;
};

}  // namespace freshet
