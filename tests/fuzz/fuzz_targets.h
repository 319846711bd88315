// What is fuzzed: each target takes any bytes and aborts where a promise of the code under test is broken.
//
// libFuzzer drives them without an end (FRESHET_FUZZERS=ON, see CMakeLists.txt); fuzz_test.cc drives them for a bounded
// time in every test run, with mutations of the same seeds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace freshet {

struct FuzzTarget {
  std::string_view name;
  void (*run)(std::string_view bytes);
  std::span<const std::string_view> seeds;
};

// json_decoder, delimited_decoder (CSV and TSV, header line first), protobuf_decoder, protobuf_recommendation (as
// `freshet serve` reads it), timestamp, log_lines (plain, gzip, zstd files),
// snapshot_record (key and value).
std::span<const FuzzTarget> FuzzTargets();

}  // namespace freshet
