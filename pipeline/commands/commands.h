// The subcommands of `freshet`. Each Add…() declares one on `app`; parsing the command line then leaves its work in
// `action`.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "pipeline/setup.h"

namespace freshet {

using Action = std::function<Status()>;

void AddRun(CLI::App& app, Action& action);
void AddReplay(CLI::App& app, Action& action);
void AddServe(CLI::App& app, Action& action);
void AddGenerate(CLI::App& app, Action& action);
void AddExport(CLI::App& app, Action& action);
void AddEvaluate(CLI::App& app, Action& action);
void AddModel(CLI::App& app, Action& action);
void AddModelConvert(CLI::App& model, Action& action);
void AddState(CLI::App& app, Action& action);
void AddConfig(CLI::App& app, Action& action);

// For CLI::Option::check(). An empty path is a mistake, as of a shell's variable that is not set, and not an absent
// flag.
CLI::Validator NotEmpty();
// A number as unsigned options take it: CLI11 would turn -1 into the largest.
CLI::Validator WholeNumber();

// Epoch milliseconds of an ISO 8601 time, or of digits that are them.
Result<int64_t> ParseTime(const std::string& flag, const std::string& text);

// Refuses `output` (named `flag`) where it is one of `inputs`, which it would destroy.
Status CheckIsNoInput(const std::string& flag, const std::filesystem::path& output,
                      const std::vector<std::string>& inputs);

// Adds -c and --set to `command`.
void AddConfigFlags(CLI::App& command, ConfigFlags& flags);

// Adds --snapshot, the directory that partitions without state are restored from.
void AddSnapshotFlag(CLI::App& command, std::string& directory);

}  // namespace freshet
