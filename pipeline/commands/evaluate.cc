// freshet evaluate: accuracy through the C++ engine.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/thousands.h"
#include "pipeline/commands/commands.h"
#include "pipeline/commands/outputs.h"
#include "pipeline/evaluation/report.h"
#include "pipeline/progress.h"
#include "pipeline/text_file.h"

namespace freshet {
namespace {

constexpr char kLeaveOneOut[] = "leave-one-out";
constexpr char kPrequential[] = "prequential";

struct EvaluateFlags {
  ConfigFlags config;
  std::vector<std::string> inputs;
  std::string protocol = kLeaveOneOut;
  std::string from;
  std::string compare;
  std::vector<std::string> later;
  double popularity_hours = 1;
  BlendOptions blend;
  uint64_t seed = 1;
  std::string json;
};

void AddBlend(CLI::App& command, BlendOptions& blend) {
  const auto add = [&](const char* name, double& value, const char* text) {
    command.add_option(name, value, text)
        ->transform(Number(0.001, 1e6))
        ->capture_default_str()
        ->group("Blend (prequential)");
  };
  add("--blend-popularity-minutes", blend.popularity_minutes, "Half-life of a click's worth for what is popular now");
  add("--blend-followers-minutes", blend.followers_minutes,
      "Half-life of a click's worth for what is read after an item");
  add("--blend-gap-minutes", blend.gap_minutes, "Half-life of the user's newest item as a hint, by the time since");
  add("--blend-popularity-weight", blend.popularity_weight,
      "Popularity counts as so many clicks after the newest item");
}

Result<std::optional<int64_t>> FromOf(const EvaluateFlags& flags) {
  if (flags.from.empty()) return std::optional<int64_t>();
  if (flags.protocol != kPrequential)
    return Error(ErrorCode::kInvalidArgument, "--from: only for --protocol prequential");
  ASSIGN_OR_RETURN(const int64_t from, ParseTime("--from", flags.from));
  return std::optional(from);
}

// A later model, loaded, and its time.
struct Later {
  int64_t from_ms = 0;
  ServingModel serving;
};

// Every item's score is wanted, not the best ones only, so model.precision has nothing to shorten.
Result<ServingModel> LoadForEvaluation(const std::string& directory, const Config& config) {
  return ServingModel::Load(directory, {NumberType::kFloat32, config.model.cache_precision});
}

Result<std::vector<Later>> LoadLater(const EvaluateFlags& flags, const Config& config) {
  std::vector<Later> later;
  for (const std::string& text : flags.later) {
    const size_t sign = text.find('=');
    if (sign == std::string::npos || sign + 1 == text.size() || flags.protocol != kPrequential) {
      return Error(ErrorCode::kInvalidArgument,
                   "--model-from " + text + ": expected TIME=DIR, and --protocol prequential");
    }
    ASSIGN_OR_RETURN(const int64_t from, ParseTime("--model-from", text.substr(0, sign)));
    if (!later.empty() && from <= later.back().from_ms) {
      return Error(ErrorCode::kInvalidArgument, "--model-from " + text + ": expected a time after the one before");
    }
    ASSIGN_OR_RETURN(ServingModel serving, LoadForEvaluation(text.substr(sign + 1), config));
    later.push_back({from, std::move(serving)});
  }
  return later;
}

Result<EventLog> ReadLog(const EvaluateFlags& flags, const Config& config) {
  const std::vector<std::filesystem::path> inputs(flags.inputs.begin(), flags.inputs.end());
  ASSIGN_OR_RETURN(EventLog log, ReadEventLog(config, inputs, nullptr));
  spdlog::info("read {} events of {} users, {} items; {} bad records left out, {} duplicates dropped", log.events,
               log.users.size(), log.vocabulary.item_ids().size() - 1, log.bad_records + log.unlistable_ids,
               log.duplicates);
  return log;
}

// What would keep the figures from being written, before there are any.
Status CheckJson(const EvaluateFlags& flags, const Config& config) {
  if (flags.json.empty()) return {};
  std::vector<std::string> models = {config.model.directory, flags.compare};
  for (const std::string& text : flags.later) models.push_back(text.substr(text.find('=') + 1));
  const std::vector<FileRead> read = FilesRead(flags.config, flags.inputs, models);
  for (const std::string& path : {flags.json, flags.json + kUnfinished}) {
    RETURN_IF_ERROR(CheckOutputFile("--json", path, read));
  }
  RETURN_IF_ERROR(CheckOutputIsNoState("--json", flags.json, config.state.directory));
  const Status creatable = TextFile::CheckCreatable(flags.json);
  return creatable.ok() ? creatable : creatable.error().At("--json");
}

Status WriteJson(const std::string& path, const std::string& json) {
  auto file = TextFile::Create(path);
  if (!file.ok()) return file.error().At("--json");
  Status written = (*file)->Write(json);
  if (written.ok()) written = (*file)->Close();
  return written.ok() ? written : written.error().At("--json");
}

// Figures of a model that knows nothing of the log would be zeros that look like figures. Of models that take over from
// each other, one that knows something is enough.
Status CheckKnown(const EventLog& log, const ReportFacts& facts, const EvaluateFlags& flags, const Config& config) {
  const std::string directories[] = {config.model.directory, flags.compare};
  for (size_t i = 0; i < facts.models.size(); ++i) {
    const KnownShare known = KnownOf(log, facts.models[i]->model->vocabulary);
    const bool taken_over =
        i == 0 && std::any_of(facts.options.later.begin(), facts.options.later.end(), [&](const auto& later) {
          return KnownOf(log, later.serving->model->vocabulary).known_items > 0;
        });
    const std::string where = (i == 0 ? "model.directory: " : "--compare: ") + directories[i];
    if (known.known_items == 0 && !taken_over) {
      return Error(ErrorCode::kNeedsDecision, where + ": knows none of the " + WithThousands(known.items) +
                                                  " items of --input; expected a model of this log, or other inputs");
    }
    if (2 * known.known_items >= known.items) continue;
    spdlog::warn("{}: knows {} of the {} items of --input, with {} of its {} events; the others are misses", where,
                 WithThousands(known.known_items), WithThousands(known.items), WithThousands(known.known_events),
                 WithThousands(known.events));
  }
  return {};
}

// On stderr: how far the part is that is going on, since a model may take as long as all baselines or much longer.
class Teller {
 public:
  void Tell(const Part& part) {
    // How long a predictor takes in what is known says nothing of how long it predicts.
    const std::string what = part.what + (part.done == 0 ? " takes in the log" : "");
    if (what != part_) progress_.Begin(part_ = what, part.unit);
    progress_.Update(part.done, part.done == 0 ? -1 : static_cast<double>(part.done) / static_cast<double>(part.total));
  }
  void Finish(size_t predictions) {
    progress_.Begin("", "predictions");
    progress_.Update(static_cast<int64_t>(predictions));
    progress_.Finish();
  }

 private:
  Progress progress_{"evaluate", "predictions"};
  std::string part_;
};

Status EvaluateCommand(const EvaluateFlags& flags) {
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags.config));
  RETURN_IF_ERROR(CheckJson(flags, config));
  ASSIGN_OR_RETURN(const std::optional<int64_t> from_ms, FromOf(flags));
  ASSIGN_OR_RETURN(const ServingModel serving, LoadForEvaluation(config.model.directory, config));
  ServingModel compared;
  if (!flags.compare.empty()) {
    ASSIGN_OR_RETURN(compared, LoadForEvaluation(flags.compare, config));
  }
  ASSIGN_OR_RETURN(const std::vector<Later> later, LoadLater(flags, config));
  ASSIGN_OR_RETURN(const EventLog log, ReadLog(flags, config));
  ASSIGN_OR_RETURN(const EvaluationPlan plan,
                   flags.protocol == kPrequential ? PlanPrequential(log, from_ms) : PlanLeaveOneOut(log));
  ReportFacts facts{flags.protocol, from_ms, &plan, {&serving}, {}};
  if (!flags.compare.empty()) facts.models.push_back(&compared);
  for (const Later& one : later) facts.options.later.push_back({one.from_ms, &one.serving});
  facts.options.exclude_seen = config.recommend.exclude_seen;
  facts.options.popularity_hours = flags.popularity_hours;
  facts.options.blend = flags.blend;
  facts.options.cache_bytes = config.state.hot_cache_bytes;
  facts.options.threads = WorkersFor(config, 0);
  facts.options.seed = flags.seed;
  RETURN_IF_ERROR(CheckKnown(log, facts, flags, config));
  Teller teller;
  const Evaluation evaluation =
      Evaluate(plan, facts.models, facts.options, [&](const Part& part) { teller.Tell(part); });
  teller.Finish(evaluation.outcomes.size() * plan.cases.size());
  std::fputs(ReportTable(facts, evaluation).c_str(), stdout);
  if (flags.json.empty()) return {};
  return WriteJson(flags.json, ReportJson(facts, evaluation));
}

}  // namespace

void AddEvaluate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<EvaluateFlags>();
  CLI::App* const command =
      app.add_subcommand("evaluate", "Accuracy of a model on a log, through the C++ engine, baselines beside it");
  AddConfigFlags(*command, flags->config);
  command->add_option("--input", flags->inputs, "Log files, in order; order within a user is the log's order")
      ->required()
      ->check(NotEmpty());
  command
      ->add_option("--protocol", flags->protocol,
                   "leave-one-out: each user's last event is the target; prequential: every event is predicted from "
                   "those before it in the log")
      ->check(CLI::IsMember({kLeaveOneOut, kPrequential}))
      ->capture_default_str();
  command
      ->add_option("--from", flags->from,
                   "prequential: predict events from this time on (ISO 8601, or epoch milliseconds); earlier ones "
                   "are only taken in")
      ->check(NotEmpty());
  command->add_option("--compare", flags->compare, "A second model directory: its figures, and the difference")
      ->check(NotEmpty());
  command
      ->add_option("--model-from", flags->later,
                   "prequential: TIME=DIR, a model that takes over from then on; as often as there are, in order of "
                   "time")
      ->check(NotEmpty());
  command
      ->add_option("--popularity-hours", flags->popularity_hours,
                   "Hours of events that popularity_recent counts, which also stands in for a user's first event")
      ->transform(Number(0.001, 1e6))
      ->capture_default_str();
  AddBlend(*command, flags->blend);
  command->add_option("--seed", flags->seed, "Of intervals and tests")->transform(WholeNumber())->capture_default_str();
  command->add_option("--json", flags->json, "File for the figures as JSON")->check(NotEmpty());
  command->footer(
      "Example:\n"
      "  freshet evaluate --input clicks.jsonl --set model.directory=models/shop --json accuracy.json\n"
      "  freshet evaluate --input clicks.jsonl --set model.directory=models/shop --protocol prequential --from "
      "2017-10-02\n"
      "  freshet evaluate --input clicks.jsonl --set model.directory=models/demo --compare models/shop");
  command->callback([flags, &action] { action = [flags] { return EvaluateCommand(*flags); }; });
}

}  // namespace freshet
