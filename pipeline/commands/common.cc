#include <optional>
#include <system_error>

#include "ingest/timestamp.h"
#include "pipeline/commands/commands.h"

namespace freshet {

CLI::Validator NotEmpty() {
  return CLI::Validator([](std::string& text) { return text.empty() ? "empty, expected a value" : ""; }, "", "");
}

CLI::Validator WholeNumber() {
  const auto check = [](std::string& text) {
    const bool whole = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    return whole ? std::string() : text + ": expected a whole number";
  };
  return CLI::Validator(check, "", "");
}

Result<int64_t> ParseTime(const std::string& flag, const std::string& text) {
  std::optional<int64_t> time_ms = ParseIso8601Ms(text);
  if (!time_ms) time_ms = ParseEpochMs(text, TimeUnit::kMilliseconds);
  if (time_ms) return *time_ms;
  return Error(
      ErrorCode::kInvalidArgument,
      flag + ": \"" + text + "\": expected an ISO 8601 time such as 2017-10-10T00:00:00Z, or milliseconds since 1970");
}

Status CheckIsNoInput(const std::string& flag, const std::filesystem::path& output,
                      const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code absent;
    if (!std::filesystem::equivalent(input, output, absent)) continue;
    return Error(ErrorCode::kInvalidArgument,
                 flag + ": " + output.string() + ": is the input " + input + ", expected a file that is not read");
  }
  return {};
}

void AddConfigFlags(CLI::App& command, ConfigFlags& flags) {
  command
      .add_option("-c,--config", flags.file,
                  "Configuration file (YAML); may be left out where defaults and --set suffice")
      ->check(NotEmpty());
  command.add_option("--set", flags.sets, "key.path=value: overrides a key; the value is YAML; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

void AddSnapshotFlag(CLI::App& command, std::string& directory) {
  command
      .add_option("--snapshot", directory,
                  "Directory that `freshet state snapshot` wrote: partitions without state here are restored from "
                  "it, and go on from there")
      ->check(NotEmpty());
}

}  // namespace freshet
