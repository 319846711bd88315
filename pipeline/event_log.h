// A whole log in memory, by user: what `evaluate` and `export` work on. Tokens are those of the pipeline.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/event.h"
#include "core/result.h"
#include "core/vocabulary.h"
#include "pipeline/config.h"

namespace freshet {

struct UserSequence {
  std::string user_id;
  std::vector<ModelToken> tokens;  // in log order
};

// An event's place in the log: a user's n-th is the n-th of UserSequence::tokens.
struct LoggedEvent {
  uint32_t user = 0;    // index in EventLog::users
  int64_t time_ms = 0;  // event time
};

// Events that are earlier than the one before them of the same user: order within a user is the log's, so that what
// came last in it is not what happened last.
struct Disorder {
  int64_t events = 0;
  std::string example;  // of the first: where it is, the user, both times
};

struct EventLog {
  Vocabulary vocabulary;            // of the log, rows in order of first appearance; or the given one
  std::vector<UserSequence> users;  // in order of their first event
  std::vector<LoggedEvent> order;   // every event, in log order
  int64_t events = 0;
  int64_t duplicates = 0;   // by event_id, left out as the pipeline drops them
  int64_t bad_records = 0;  // counted, each logged at level debug, and left out
  int64_t unlistable_ids =
      0;  // events whose user, item or type has a tab or line end, which no .tsv can list; they are left out
  int64_t unknown_items = 0;  // events whose item the given vocabulary does not hold
  int64_t out_of_range = 0;   // events outside the given times
  Disorder disorder;
};

// Of event times, the end excluded. What is outside is left out, and its items get no row.
struct TimeRange {
  int64_t from_ms = std::numeric_limits<int64_t>::min();
  int64_t to_ms = std::numeric_limits<int64_t>::max();
};

// Reads log files through source and decoder of the configuration. With `vocabulary`, rows are its rows and items
// outside it are row 0; without, every item and type of the log gets a row. Where times run backwards within users, the
// log on stderr says so. kCorrupt, with file and byte, where compressed input is damaged or breaks off: half a log must
// not pass for the whole.
Result<EventLog> ReadEventLog(const Config& config, std::span<const std::filesystem::path> inputs,
                              const Vocabulary* vocabulary, TimeRange range = {});

}  // namespace freshet
