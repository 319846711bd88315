// The model that a running instance serves, and how the next one comes to its workers without a lock on their way.
//
// A worker looks once a micro-batch (one atomic load while it holds the newest) and takes a new model up between two of
// its commits. The model before is freed when the last worker has let go of it, by whoever replaced it: that takes
// time. Threads: Replace() and Settled() one; Newer() any.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

#include "pipeline/serving_model.h"

namespace freshet {

class CurrentModel {
 public:
  explicit CurrentModel(std::shared_ptr<const ServingModel> first)
      : newest_(std::move(first)), newest_address_(newest_.get()) {}

  // The newest model; null where that is `held`, which the caller owns.
  std::shared_ptr<const ServingModel> Newer(const ServingModel* held) const {
    if (newest_address_.load(std::memory_order_relaxed) == held) return nullptr;
    const std::lock_guard lock(mutex_);
    return newest_;
  }

  // REQUIRES: Settled(), so that there are never more than two.
  void Replace(std::shared_ptr<const ServingModel> next) {
    const std::lock_guard lock(mutex_);
    before_ = std::exchange(newest_, std::move(next));
    newest_address_.store(newest_.get(), std::memory_order_relaxed);
  }

  // Whether everybody has let go of the model before; frees it then.
  bool Settled() {
    if (before_.use_count() > 1) return false;
    before_.reset();
    return true;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const ServingModel> newest_;
  std::shared_ptr<const ServingModel> before_;
  std::atomic<const ServingModel*> newest_address_;
};

}  // namespace freshet
