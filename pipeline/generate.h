// `freshet generate`: a synthetic clickstream (clickstream.h) as JSON Lines, and its catalogue beside it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "core/result.h"
#include "pipeline/clickstream.h"

namespace freshet {

inline constexpr uint64_t kMostUsers = 100'000'000;
inline constexpr uint64_t kMostItems = 1'000'000'000;
inline constexpr uint64_t kMostEvents = 1'000'000'000'000;

struct GenerateOptions {
  uint64_t users = 5000;
  uint64_t items = 2000;
  uint64_t events = 200'000;
  uint64_t seed = 1;
  ClickPeriod period;
  std::filesystem::path output;  // events; compressed where the name ends in .gz or .zst
};

// The catalogue that Generate() writes: items.jsonl in the folder of `output`. Empty: none, as nothing has its place
// beside a pipe or a device.
std::filesystem::path CataloguePath(const GenerateOptions& options);

// Writes the catalogue and the events; makes the folder where there is none, and replaces files that are there once it
// has all, but not a catalogue that is another and stands without these events' file. `go_on` hears the number of
// events written, every few thousand; false ends the work with kCancelled. Memory: 32 bytes a user. Limits: 1 to
// kMost… of each, 1 to 100 days, times of the years 1970 to 2099.
Status Generate(const GenerateOptions& options, const std::function<bool(uint64_t events)>& go_on);

}  // namespace freshet
