// freshet generate: a synthetic clickstream with planted structure.
#include "pipeline/generate.h"

#include <spdlog/spdlog.h>

#include <memory>

#include "pipeline/commands/commands.h"
#include "pipeline/commands/outputs.h"
#include "pipeline/progress.h"

namespace freshet {

void AddGenerate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  auto start = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("generate", "A synthetic clickstream with planted structure, and its catalogue beside it");
  command->add_option("--users", options->users, "Users")->transform(WholeNumber(1, kMostUsers))->capture_default_str();
  command->add_option("--items", options->items, "Items")->transform(WholeNumber(1, kMostItems))->capture_default_str();
  command->add_option("--events", options->events, "Events; they are streamed, so their number needs no memory")
      ->transform(WholeNumber(1, kMostEvents))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "The same seed and sizes give the same bytes, everywhere")
      ->transform(WholeNumber())
      ->capture_default_str();
  command
      ->add_option("--start", *start,
                   "When it begins: ISO 8601 such as 2024-03-01T00:00:00Z, or epoch milliseconds (default: 2024-01-01)")
      ->check(NotEmpty());
  command->add_option("--days", options->period.days, "Days that the events are spread over")
      ->transform(WholeNumber(1, ClickPeriod::kMostDays))
      ->capture_default_str();
  command
      ->add_option("--output", options->output,
                   "File for the events (.jsonl, .jsonl.gz, .jsonl.zst); items.jsonl goes beside it")
      ->required()
      ->check(NotEmpty());
  command->footer(
      "Example:\n  freshet generate --users 5000 --items 2000 --events 200000 --seed 1 --output "
      "var/sample/events.jsonl");
  command->callback([options, start, &action] {
    action = [options, start]() -> Status {
      if (!start->empty()) {
        ASSIGN_OR_RETURN(options->period.start_ms, ParseTime("--start", *start));
      }
      const std::atomic<bool>& stop = StopOnSignals();
      SetUpLogging({});
      RETURN_IF_ERROR(CheckOutputFile("--output", options->output, {}));
      if (const auto catalogue = CataloguePath(*options); !catalogue.empty()) {
        RETURN_IF_ERROR(CheckOutputFile("--output", catalogue, {}));
      }
      Progress progress("generate", "events");
      RETURN_IF_ERROR(Generate(*options, [&](uint64_t events) {
        progress.Update(static_cast<int64_t>(events),
                        static_cast<double>(events) / static_cast<double>(options->events));
        return !stop;
      }));
      progress.Finish();
      return {};
    };
  });
}

}  // namespace freshet
