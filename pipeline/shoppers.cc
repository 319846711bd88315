#include "pipeline/shoppers.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <stop_token>
#include <string>

#include "core/hash.h"
#include "pipeline/clickstream.h"

namespace freshet {
namespace {

using Clock = std::chrono::steady_clock;

int64_t NowMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string UserOf(const Click& click) { return "u" + std::to_string(uint64_t{click.user} + 1); }

// Exponential gaps, as of people who do not know of each other.
void ClickAway(const std::stop_token& ended, double rate, uint32_t items, EventWriter& writer) {
  constexpr uint64_t kForEver = uint64_t{1} << 32;
  std::random_device seed;
  const Catalogue catalogue(items);
  Clickstream clicks(catalogue, kShoppers, kForEver, seed());
  std::mt19937_64 random(seed());
  std::exponential_distribution<double> gap(rate);
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  std::atomic<bool> told{false};
  auto next = Clock::now();
  std::string event;
  for (uint64_t number = 1; !ended.stop_requested(); ++number) {
    next += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap(random)));
    changed.wait_until(lock, ended, next, [] { return false; });
    Click click = clicks.Next();
    click.time_ms = NowMs();
    event.clear();
    AppendJson(number, click, event);
    writer.Write(UserOf(click), event, {}, [&told](const Result<PartitionPosition>& place) {
      if (!place.ok() && !told.exchange(true)) spdlog::warn("a shopper's click is lost: {}", place.error().message());
    });
  }
}

}  // namespace

Status CheckShoppersFit(const Model& model, EventDecoder& decoder) {
  const auto refuse = [](const std::string& why) { return Error(ErrorCode::kInvalidArgument, "--shoppers: " + why); };
  if (model.vocabulary.RowOf(HashItem("i1")) == kUnknownItem) {
    return refuse("model " + model.name + " does not know their items (i1, i2, ..); models/demo does");
  }
  Click click;
  click.time_ms = NowMs();
  std::string event;
  AppendJson(1, click, event);
  Arena arena;
  RawRecord record;
  record.value = arena.Copy(event);
  const auto decoded = decoder.Decode(record, arena);
  if (const auto* const failure = std::get_if<DecodeFailure>(&decoded)) {
    return refuse("source.format and source.mapping do not read their events: " + failure->message);
  }
  return {};
}

Shoppers::Shoppers(double rate, uint32_t items, EventWriter& writer)
    : thread_([rate, items, &writer](const std::stop_token& ended) { ClickAway(ended, rate, items, writer); }) {}

}  // namespace freshet
