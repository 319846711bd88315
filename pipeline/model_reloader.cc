#include "pipeline/model_reloader.h"

#include <malloc.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "pipeline/refusals.h"

namespace freshet {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookForHandOver{20};

// False: the end came first.
bool Wait(const std::stop_token& ended, std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, ended, time, [] { return false; });
  return !ended.stop_requested();
}

double SecondsSince(SteadyClock::time_point began) {
  return std::chrono::duration<double>(SteadyClock::now() - began).count();
}

}  // namespace

std::filesystem::path ModelDirectoryBehind(const std::filesystem::path& directory) {
  std::error_code failure;
  std::filesystem::path behind = std::filesystem::weakly_canonical(directory, failure);
  return failure ? directory : behind;  // whoever loads it says what is wrong
}

ModelReloader::ModelReloader(ModelReloaderOptions options, CurrentModel& current, Metrics& metrics)
    : options_(std::move(options)),
      current_(current),
      metrics_(metrics),
      tried_(options_.loaded_from),
      thread_([this](const std::stop_token& ended) { Watch(ended); }) {}

void ModelReloader::Watch(const std::stop_token& ended) {
  SteadyClock::time_point next_look = SteadyClock::now();
  while (Wait(ended, options_.look_for_request)) {
    const bool asked = options_.asked();
    if (!asked && SteadyClock::now() < next_look) continue;
    const std::filesystem::path behind = ModelDirectoryBehind(options_.directory);
    if (asked || behind != tried_) {
      spdlog::info("model.directory: {}: {}, loads {}", options_.directory.string(),
                   asked ? "asked to load it anew" : "leads elsewhere", behind.string());
      tried_ = behind;
      Reload(ended);
    }
    next_look = SteadyClock::now() + options_.look_at_directory;
  }
}

void ModelReloader::Reload(const std::stop_token& ended) {
  const auto began = SteadyClock::now();
  const ModelLabels served = metrics_.Model();
  auto loaded = LoadSuitable();
  if (ended.stop_requested()) return;
  if (!loaded.ok()) {
    metrics_.AddRefusedModel();
    spdlog::error("model.directory: {}: refused; model {} version {} goes on serving", loaded.error().message(),
                  served.name, served.version);
    return;
  }
  const Model& next = *(*loaded)->model;
  if (next.version == served.version && next.name == served.name) {
    spdlog::info("model {} version {} is what is served already", next.name, next.version);
    return;
  }
  spdlog::info("model {} version {}, {} items: loaded in {:.2f} s, goes to the workers", next.name, next.version,
               next.config.items - 1, SecondsSince(began));
  HandOver(*std::move(loaded), ended);
}

Result<std::shared_ptr<const ServingModel>> ModelReloader::LoadSuitable() const {
  std::shared_ptr<const ServingModel> loaded;
  const Status status = CatchRefusals([&]() -> Status {
    ASSIGN_OR_RETURN(ServingModel serving, ServingModel::Load(tried_, options_.serving));
    RETURN_IF_ERROR(options_.suits(serving));
    loaded = std::make_shared<const ServingModel>(std::move(serving));
    return {};
  });
  if (!status.ok()) return status.error();
  return loaded;
}

// Ends once every worker has it; one that waits for a broker takes it up when it goes on.
void ModelReloader::HandOver(std::shared_ptr<const ServingModel> next, const std::stop_token& ended) {
  const auto began = SteadyClock::now();
  const ModelLabels before = metrics_.Model();
  const ModelLabels labels{next->model->name, next->model->version, next->written_s};
  current_.Replace(std::move(next));
  while (!current_.Settled()) {
    if (!Wait(ended, kLookForHandOver)) return;
  }
  malloc_trim(0);  // its parts lie among others in the heap, which would keep the room
  metrics_.SwapModel(labels);
  spdlog::info("model {} version {}: serves in place of {} version {}; all workers have it after {:.2f} s", labels.name,
               labels.version, before.name, before.version, SecondsSince(began));
}

}  // namespace freshet
