// Loads the model of a running instance anew: when somebody asks, and when `directory`, a symbolic link or below one,
// leads elsewhere than before.
//
// The next model is loaded and checked completely, on a thread of its own, while the old one serves. One that is
// refused changes nothing: it is logged, counted, and not tried again before somebody asks or the link leads elsewhere.
// At most two models are in memory: the next one is not looked at before every worker has let go of the one before.
// Limits: files that change while they are read are not noticed where they still fit together; docs/operations.md says
// how to roll out a model.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <thread>

#include "core/result.h"
#include "pipeline/current_model.h"
#include "pipeline/metrics.h"

namespace freshet {

struct ModelReloaderOptions {
  std::filesystem::path directory;    // model.directory
  std::filesystem::path loaded_from;  // where that led when the first model was loaded
  ServingOptions serving = {};
  std::function<bool()> asked;                        // whether somebody has asked since the last call
  std::function<Status(const ServingModel&)> suits;   // whether this instance can serve it
  std::chrono::milliseconds look_for_request{100};    // how often `asked` is called
  std::chrono::milliseconds look_at_directory{2000};  // how often the link is read
};

// Where a model's directory lies in the end. All of its files are read from there: a link may change in between.
std::filesystem::path ModelDirectoryBehind(const std::filesystem::path& directory);

class ModelReloader {
 public:
  // The collaborators outlive it.
  ModelReloader(ModelReloaderOptions options, CurrentModel& current, Metrics& metrics);
  ~ModelReloader() = default;  // joins, when what it is loading is loaded

 private:
  void Watch(const std::stop_token& ended);
  void Reload(const std::stop_token& ended);
  Result<std::shared_ptr<const ServingModel>> LoadSuitable() const;
  void HandOver(std::shared_ptr<const ServingModel> next, const std::stop_token& ended);

  const ModelReloaderOptions options_;
  CurrentModel& current_;
  Metrics& metrics_;
  std::filesystem::path tried_;  // where the directory led when it was loaded last
  std::jthread thread_;          // uses the others: last to come, first to go
};

}  // namespace freshet
