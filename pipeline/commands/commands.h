// The subcommands of `freshet`. Each Add…() declares one on `app`; parsing the command line then leaves its work in
// `action`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "core/result.h"
#include "pipeline/setup.h"

namespace freshet {

using Action = std::function<Status()>;

void AddRun(CLI::App& app, Action& action);
void AddReplay(CLI::App& app, Action& action);
void AddGenerate(CLI::App& app, Action& action);
void AddExport(CLI::App& app, Action& action);
void AddEvaluate(CLI::App& app, Action& action);
void AddModel(CLI::App& app, Action& action);
void AddState(CLI::App& app, Action& action);
void AddConfig(CLI::App& app, Action& action);

// Adds -c and --set to `command`.
void AddConfigFlags(CLI::App& command, ConfigFlags& flags);

// Adds --snapshot, the directory that partitions without state are restored from.
void AddSnapshotFlag(CLI::App& command, std::string& directory);

}  // namespace freshet
