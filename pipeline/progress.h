// Progress of long work on stderr: done, rate and time left. On a terminal one line that is rewritten, elsewhere a line
// of the log about every ten seconds.
//
// Threads: one owner. An Update() that shows nothing costs a look at the clock: call it once a batch.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace freshet {

struct ProgressReport {
  std::string what;    // "replay"
  std::string part;    // of it, that is going on: "intervals"; empty: it has no parts
  std::string unit;    // "events"
  int64_t done = 0;    // units
  double share = -1;   // of the whole, 0 to 1; below 0: unknown
  double rate = 0;     // units a second
  double seconds = 0;  // so far
  double left_s = -1;  // below 0: unknown
};

// "replay: 1,234,567 events, 41%, 250,000/s, 1:32 left".
std::string FormatProgress(const ProgressReport& report);
// At the end: "replay: 1,234,567 events in 4.9 s, 250,000/s".
std::string FormatDone(const ProgressReport& report);
// "0:05", "1:32", "2:03:07", "3 d 2 h".
std::string FormatTimeLeft(double seconds);

class Progress {
 public:
  Progress(std::string what, std::string unit);
  ~Progress();  // a line begun on a terminal is ended

  // Another part of the work begins: share, rate and time left are of it alone, from now on. Empty: the whole again.
  void Begin(std::string part, std::string unit);
  // `done` units so far in this run, and the share of the whole work (-1: unknown), which need not begin at 0.
  void Update(int64_t done, double share = -1);
  // The last word, with what Update() heard last.
  void Finish();

 private:
  using Clock = std::chrono::steady_clock;

  const bool terminal_;
  const Clock::time_point began_;
  Clock::time_point next_;
  Clock::time_point shown_at_;
  int64_t shown_done_ = 0;  // below 0: as many as the next Update() tells
  double first_share_ = -1;
  Clock::time_point first_share_at_;
  bool line_open_ = false;
  ProgressReport report_;
};

}  // namespace freshet
