// The subcommands of `freshet`. Each Add…() declares one on `app`; parsing the command line then leaves its work in
// `action`.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

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
// For CLI::Option::transform(): decimal numbers within bounds, and nothing else. CLI11 alone would turn -1 and 2^64
// into the largest number, 010 into eight, and take nan for one between any two bounds.
CLI::Validator WholeNumber(uint64_t least = 0, uint64_t most = std::numeric_limits<uint64_t>::max());
CLI::Validator Number(double least, double most);

// Epoch milliseconds of an ISO 8601 time, or of digits that are them.
Result<int64_t> ParseTime(const std::string& flag, const std::string& text);

// Adds -c and --set to `command`.
void AddConfigFlags(CLI::App& command, ConfigFlags& flags);

// Adds --snapshot, the directory that partitions without state are restored from.
void AddSnapshotFlag(CLI::App& command, std::string& directory);

}  // namespace freshet
