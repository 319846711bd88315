// What is fuzzed: each target takes any bytes and aborts where a promise of the code under test is broken.
//
// libFuzzer drives them without an end (FRESHET_FUZZERS=ON, see CMakeLists.txt); fuzz_test.cc drives them for a bounded
// time in every test run, with mutations of the same seeds.
#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace freshet {

struct FuzzTarget {
  std::string_view name;
  void (*run)(std::string_view bytes);
  std::span<const std::string_view> seeds;
};

// What comes with the stream and with models: records, log files, snapshots, checkpoints, model directories.
std::span<const FuzzTarget> StreamTargets();
// What comes from operators and clients: the configuration, token and item files, HTTP.
std::span<const FuzzTarget> ServiceTargets();

// All of them, by their names in the tables.
std::vector<FuzzTarget> FuzzTargets();

// Makes a file that only its owner reads and changes.
void WriteFile(const std::filesystem::path& path, std::string_view begin, std::string_view rest = {});

// Aborts where a promise is broken.
void Require(bool condition, const char* promise);

}  // namespace freshet
