// What the end-to-end benchmark replays: clickstream files, and a random model whose vocabulary is a file's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/result.h"
#include "inference/model.h"
#include "pipeline/event_log.h"

namespace freshet::bench {

struct LogOptions {
  std::filesystem::path input;  // JSON Lines in the default mapping; empty: a generated clickstream
  int64_t events = 200'000;     // generated, or of `input` its first ones; 0: all of them
  int64_t users = 5000;         // generated
  int64_t items = 3416;         // generated
  uint64_t seed = 1;
};

// Writes the log to `path`.
Status WriteLog(const LogOptions& options, const std::filesystem::path& path);

// A log of the same items, types and order of times as `log`, repeated as often as needed, each event of one of `users`
// users: the first `rounds` events of each user in turn go to `fill`, then `events` of users drawn evenly to `draw`.
struct UniformOptions {
  int64_t users = 2000;
  int64_t rounds = 200;
  int64_t events = 5000;
  uint64_t seed = 1;
};
Status WriteUniformLogs(const EventLog& log, const UniformOptions& options, const std::filesystem::path& fill,
                        const std::filesystem::path& draw);

// Everything in `paths`, read by the pipeline's own decoder. With `vocabulary`, rows are its rows.
Result<EventLog> ReadLogs(const std::vector<std::filesystem::path>& paths, const Vocabulary* vocabulary);

struct Shape {
  int layers = 4;
  int dim = 64;
  int heads = 2;
  int window = 50;
};

// Random weights for the items and types of `vocabulary`, cosine, temperature .05.
Status WriteModel(const Shape& shape, const Vocabulary& vocabulary, uint64_t seed,
                  const std::filesystem::path& directory);

}  // namespace freshet::bench
