// freshet evaluate: accuracy through the C++ engine.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/commands/commands.h"
#include "pipeline/evaluation.h"
#include "pipeline/progress.h"

namespace freshet {
namespace {

struct EvaluateFlags {
  ConfigFlags config;
  std::vector<std::string> inputs;
  std::string protocol = "leave-one-out";
  std::string json;
};

nlohmann::ordered_json ToJson(const Accuracy& accuracy) {
  nlohmann::ordered_json json;
  for (const auto& [k, at] : accuracy.at) {
    const std::string suffix = "@" + std::to_string(k);
    json["hr" + suffix] = at.hr;
    json["ndcg" + suffix] = at.ndcg;
    json["recall" + suffix] = at.hr;
    json["f1" + suffix] = at.f1;
    json["coverage" + suffix] = at.coverage;
  }
  json["mrr"] = accuracy.mrr;
  return json;
}

nlohmann::ordered_json ToJson(const Evaluation& evaluation, const ServingModel& serving, bool exclude_seen) {
  nlohmann::ordered_json json;
  json["protocol"] = {{"name", "leave-one-out"},
                      {"users", evaluation.users},
                      {"candidates", evaluation.candidates},
                      {"exclude_seen", exclude_seen},
                      {"ties", "against the model"},
                      {"order", "log"},
                      {"unknown_targets", evaluation.unknown_targets},
                      {"seen_targets", evaluation.seen_targets}};
  json["model"] = ToJson(evaluation.model);
  json["model"]["name"] = serving.model->name;
  json["model"]["version"] = serving.model->version;
  for (const auto& [name, accuracy] : evaluation.baselines) json["baselines"][name] = ToJson(accuracy);
  return json;
}

void PrintRow(const std::string& name, const Accuracy& accuracy) {
  const Accuracy::AtK& ten = accuracy.at.at(10);
  std::printf("%-20s %8.4f %8.4f %8.4f %8.4f %8.4f %8.4f %8.4f\n", name.c_str(), ten.hr, ten.ndcg, ten.f1, accuracy.mrr,
              accuracy.at.at(1).hr, accuracy.at.at(100).hr, ten.coverage);
}

void PrintTable(const Evaluation& evaluation, const ServingModel& serving, bool exclude_seen) {
  std::printf("leave-one-out, %lld users, ranked against all %lld items, seen items %s, ties against the model\n",
              static_cast<long long>(evaluation.users), static_cast<long long>(evaluation.candidates),
              exclude_seen ? "left out" : "kept");
  if (evaluation.unknown_targets + evaluation.seen_targets > 0) {
    std::printf("misses by construction: %lld targets unknown to the model, %lld seen before\n",
                static_cast<long long>(evaluation.unknown_targets), static_cast<long long>(evaluation.seen_targets));
  }
  std::printf("%-20s %8s %8s %8s %8s %8s %8s %8s\n", "", "HR@10", "NDCG@10", "F1@10", "MRR", "HR@1", "HR@100",
              "cover@10");
  PrintRow(serving.model->name, evaluation.model);
  for (const auto& [name, accuracy] : evaluation.baselines) PrintRow(name, accuracy);
}

Status Evaluate(const EvaluateFlags& flags) {
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags.config));
  ASSIGN_OR_RETURN(const ServingModel serving, ServingModel::Load(config.model.directory));
  const std::vector<std::filesystem::path> inputs(flags.inputs.begin(), flags.inputs.end());
  ASSIGN_OR_RETURN(const EventLog log, ReadEventLog(config, inputs, &serving.model->vocabulary));
  spdlog::info(
      "read {} events of {} users; {} bad records left out, {} duplicates dropped, {} events with items unknown to the "
      "model",
      log.events, log.users.size(), log.bad_records + log.unlistable_ids, log.duplicates, log.unknown_items);
  Progress progress("evaluate", "users");
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   EvaluateLeaveOneOut(serving, log, config.recommend.exclude_seen, [&](int64_t done, int64_t total) {
                     progress.Update(done, static_cast<double>(done) / static_cast<double>(total));
                   }));
  progress.Finish();
  PrintTable(evaluation, serving, config.recommend.exclude_seen);
  if (flags.json.empty()) return {};
  std::ofstream file(flags.json);
  file << ToJson(evaluation, serving, config.recommend.exclude_seen).dump(2) << "\n";
  if (!file.flush()) return Error(ErrorCode::kIo, "--json: " + flags.json + ": cannot be written");
  return {};
}

}  // namespace

void AddEvaluate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<EvaluateFlags>();
  CLI::App* const command =
      app.add_subcommand("evaluate", "Accuracy of a model on a log, through the C++ engine, baselines beside it");
  AddConfigFlags(*command, flags->config);
  command->add_option("--input", flags->inputs, "Log files, in order; order within a user is the log's order")
      ->required();
  command->add_option("--protocol", flags->protocol, "leave-one-out: each user's last event is the target")
      ->check(CLI::IsMember({"leave-one-out"}))
      ->capture_default_str();
  command->add_option("--json", flags->json, "File for the figures as JSON");
  command->footer(
      "Example:\n  freshet evaluate --input clicks.jsonl --set model.directory=models/shop --json accuracy.json");
  command->callback([flags, &action] { action = [flags] { return Evaluate(*flags); }; });
}

}  // namespace freshet
