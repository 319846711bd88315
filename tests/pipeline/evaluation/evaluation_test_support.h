// Logs and a model for the tests of evaluation, and what comes out when everything is counted anew for each case.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/evaluation/evaluation.h"

namespace freshet {

inline constexpr int64_t kStartMs = 1'600'000'000'000;
inline constexpr int64_t kHourMs = 3'600'000;

struct Click {
  uint32_t user;
  uint32_t item;  // "i<item>"
  int64_t time_ms;
};

// As ReadEventLog() without a vocabulary has it.
inline EventLog LogOf(const std::vector<Click>& clicks) {
  EventLog log{Vocabulary::Make({std::string(kUnknownName)}, {std::string(kUnknownName)}).value(), {}, {}};
  std::vector<std::string> items{std::string(kUnknownName)};
  std::vector<std::string> users;
  for (const Click& click : clicks) {
    const auto row_of = [](std::vector<std::string>& ids, const std::string& id) {
      const auto found = std::find(ids.begin(), ids.end(), id);
      if (found != ids.end()) return static_cast<uint32_t>(found - ids.begin());
      ids.push_back(id);
      return static_cast<uint32_t>(ids.size() - 1);
    };
    const uint32_t user = row_of(users, "u" + std::to_string(click.user));
    log.users.resize(users.size());
    log.users[user].user_id = users[user];
    const ItemRow item{row_of(items, "i" + std::to_string(click.item))};
    log.users[user].tokens.push_back({item, TypeRow{1}, click.time_ms / 1000});
    log.order.push_back({user, click.time_ms});
    ++log.events;
  }
  log.vocabulary = Vocabulary::Make(std::move(items), {std::string(kUnknownName), "view"}).value();
  return log;
}

// Some users and items, popular ones and rare ones, whose time now and then runs backwards.
inline std::vector<Click> RandomClicks(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Click> clicks;
  int64_t now_ms = kStartMs;
  for (size_t i = 0; i < count; ++i) {
    now_ms += static_cast<int64_t>(random() % 1'200'000) - (random() % 10 == 0 ? 3'000'000 : 0);
    const auto item = static_cast<uint32_t>(std::min(random() % 70, random() % (2 + i / 4)));
    clicks.push_back({static_cast<uint32_t>(random() % 12), item, now_ms});
  }
  return clicks;
}

// Knows items i1 to i49.
inline ServingModel SmallModel(uint64_t seed) {
  ModelConfig config;
  config.items = 50;
  config.event_types = 2;
  config.dim = 16;
  config.layers = 2;
  config.heads = 2;
  config.window = 5;
  config.temperature = .05;
  ServingModel serving;
  serving.model = RandomModel(config, seed);
  serving.engine = Engine::Make(*serving.model).value();
  serving.ranker = Ranker::Make(*serving.model).value();
  return serving;
}

inline Evaluation RunOn(const EvaluationPlan& plan, const ServingModel& serving, EvaluationOptions options = {}) {
  const ServingModel* const models[] = {&serving};
  return Evaluate(plan, models, options, [](const Part&) {});
}

inline const Outcome& OutcomeOf(const Evaluation& evaluation, std::string_view name) {
  return *std::find_if(evaluation.outcomes.begin() + static_cast<std::ptrdiff_t>(evaluation.models),
                       evaluation.outcomes.end(), [&](const Outcome& outcome) { return outcome.name == name; });
}

}  // namespace freshet
