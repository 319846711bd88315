#include <CLI/CLI.hpp>
#include <iostream>
#include <sstream>
#include <string>

#include "pipeline/commands/commands.h"
#include "pipeline/version.h"

namespace freshet {
namespace {

// A line for each problem, as a person at a terminal and a log collector both like it.
int Report(const Error& error) {
  std::istringstream lines(error.message());
  for (std::string line; std::getline(lines, line);) std::cerr << "freshet: " << line << "\n";
  return ExitCodeOf(error);
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Fresh recommendations from a clickstream: one incremental attention step per event, state in RocksDB, Kafka to "
      "Kafka.",
      "freshet");
  app.set_version_flag("--version", std::string("freshet ") + kVersion);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every command");
  app.get_formatter()->column_width(34);
  app.footer(
      "Example:\n  freshet replay --input clicks.jsonl --output recommendations.jsonl\n\n"
      "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the data needs a decision.\nResults go to "
      "stdout, everything else to stderr.");
  Action action;
  AddRun(app, action);
  AddReplay(app, action);
  AddEvaluate(app, action);
  AddExport(app, action);
  AddGenerate(app, action);
  AddModel(app, action);
  AddState(app, action);
  AddConfig(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 complains of what is missing before it names a word that it does not know.
    const std::string word = argc > 1 ? argv[1] : "-";
    const auto named = [&](const CLI::App* command) { return command->get_name() == word; };
    if (word[0] != '-' && app.get_subcommands(named).empty()) {
      return Report(
          Error(ErrorCode::kInvalidArgument, word + ": unknown command, expected one of those in freshet --help"));
    }
    return app.exit(error) == 0 ? 0 : 2;
  }
  const Status status = action();
  return status.ok() ? 0 : Report(status.error());
}

}  // namespace
}  // namespace freshet

int main(int argc, char** argv) { return freshet::Main(argc, argv); }
