#include <spdlog/fmt/fmt.h>

#include <charconv>
#include <limits>
#include <optional>
#include <system_error>

#include "ingest/timestamp.h"
#include "pipeline/commands/commands.h"

namespace freshet {
namespace {

template <typename T>
CLI::Validator Within(T least, T most, const std::string& what) {
  const std::string range = fmt::format("{} to {}", least, most);
  const auto check = [=](std::string& text) -> std::string {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool read = error == std::errc() && end == text.data() + text.size();
    if (!read || !(value >= least && value <= most)) return text + ": expected " + what + " from " + range;
    text = fmt::format("{}", value);  // without leading zeros
    return {};
  };
  return CLI::Validator(check, most == std::numeric_limits<T>::max() ? "" : range, "");
}

}  // namespace

CLI::Validator NotEmpty() {
  return CLI::Validator([](std::string& text) { return text.empty() ? "empty, expected a value" : ""; }, "", "");
}

CLI::Validator WholeNumber(uint64_t least, uint64_t most) { return Within(least, most, "a whole number"); }

CLI::Validator Number(double least, double most) { return Within(least, most, "a number"); }

Result<int64_t> ParseTime(const std::string& flag, const std::string& text) {
  std::optional<int64_t> time_ms = ParseIso8601Ms(text);
  if (!time_ms) time_ms = ParseEpochMs(text, TimeUnit::kMilliseconds);
  if (time_ms) return *time_ms;
  return Error(
      ErrorCode::kInvalidArgument,
      flag + ": \"" + text + "\": expected an ISO 8601 time such as 2017-10-10T00:00:00Z, or milliseconds since 1970");
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
