// The smallest code that does a stage's work, measured in the same run: what no rewrite of the stage can beat by much.
// bench/README.md says what each one is and what it leaves out.
//
// Each returns CPU seconds for one event: the best of some passes over a sample.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "inference/model.h"

namespace freshet::bench {

// What passes through the stages of one event.
struct Sample {
  std::string text;                     // lines of the log, and padding behind it
  size_t text_bytes = 0;                // without the padding
  std::vector<std::string> user_ids;    // of the lines
  std::vector<std::string> item_heads;  // the constant text before an item's score in a recommendation
  size_t record_bytes = 0;              // of a recommendation; 0: none
  size_t events() const { return user_ids.size(); }
};

// Reads the file by 256 KiB and finds the line ends.
Result<double> PollFloor(const std::filesystem::path& log, int64_t events);
// simdjson finds the same four fields in each line.
Result<double> DecodeFloor(const Sample& sample);
// Hashes each user id and reads and writes one cache line per user, of a table for `users` users.
double LoadFloor(const Sample& sample, size_t users);
// Copies what stands before each of `items` scores, and nine digits.
double EncodeFloor(const Sample& sample, size_t items);
// Copies the record to a buffer of as many records as a commit holds.
double PublishFloor(const Sample& sample);
// Writes the record's and the state's bytes to a file in `directory`, over pages that are there.
Result<double> CommitFloor(const Sample& sample, const std::filesystem::path& directory);

// The best rate of oneDNN's fp32 product on this thread: FLOP/s.
Result<double> PeakFlops();
// Multiplications and additions, each counted: of one event's attention step where `slots` rows are in its window, and
// of scoring the catalogue.
double AttentionFlop(const ModelConfig& config, double slots);
double RankFlop(const ModelConfig& config);

}  // namespace freshet::bench
