// How log lines look, and how many of a kind there are.
//
// Of warnings and errors of one kind, kBurst a minute pass; the others are counted, and once the minute is over a line
// says how many there were and gives the last of them. Of one kind are lines of a level that differ in numbers, and in
// what stands in double quotes, only. Lower levels pass, and so does `critical`. What ends the process is not logged:
// main() prints it.
//
// Threads: any. Memory: kKinds kinds; further ones pass until others' minutes are over.
#pragma once

#include <spdlog/logger.h>
#include <spdlog/sinks/sink.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

namespace freshet {

inline constexpr int kBurst = 20;
inline constexpr std::chrono::seconds kBurstWindow{60};
inline constexpr size_t kKinds = 256;

// `format`: text, or json, an object a line: {"time":…,"level":…,"message":…}, in UTF-8 whatever was logged. What was
// held back is told with a line after the minute's end, with a flush then, and when the logger goes.
std::shared_ptr<spdlog::logger> MakeLogger(const std::string& format, std::shared_ptr<spdlog::sinks::sink> out);

}  // namespace freshet
