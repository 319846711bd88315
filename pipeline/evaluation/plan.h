// What an evaluation asks, in terms of a log: which events are predicted, and what may be known before each.
//
// Two protocols make a plan; everything behind it is common to both:
//   leave-one-out  each user's last event in log order is predicted; known are all events of users with two or more but
//                  the predicted ones
//   prequential    every event from a time on is predicted; known are the events before it in the log
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/vocabulary.h"
#include "pipeline/event_log.h"

namespace freshet {

inline constexpr double kHeadShare = .2;           // head items: the most popular, up to this share of the known events
inline constexpr size_t kNewUserEvents = 5;        // a user is new in his first so many events
inline constexpr int64_t kNewItemMs = 86'400'000;  // an item is new until so long after its first event in the log

// An event that is known, or becomes so.
struct KnownEvent {
  uint32_t user = 0;     // index in EventLog::users
  uint32_t history = 0;  // events of the user before it in the log
  int64_t time_ms = 0;
};

// An event to predict.
struct Case {
  uint32_t user = 0;
  uint32_t history = 0;  // events of the user before it, all of them known
  size_t known = 0;      // first so many of EvaluationPlan::events may be known
  int64_t now_ms = 0;  // what predictors take for the present: the event's time; leave-one-out: the newest known one's
  bool seen = false;   // the target is in the user's history
  bool head = false;   // the items more popular than the target have less than kHeadShare of the known events
  bool new_user = false;
  bool new_item = false;  // prequential only
};

struct EvaluationPlan {
  const EventLog* log = nullptr;  // with a vocabulary of its own: its rows
  std::vector<KnownEvent> events;
  std::vector<Case> cases;    // `known` never falls from one to the next
  bool items_appear = false;  // items can be ranked from their first known event on; else all can from the start
  int64_t out_of_order = 0;   // events of the log that are earlier than one before them, of any user
};

// Error where no user has two events. `log` outlives the plan.
Result<EvaluationPlan> PlanLeaveOneOut(const EventLog& log);
// Error where the log is empty, or ends before `from_ms`. `log` outlives the plan.
Result<EvaluationPlan> PlanPrequential(const EventLog& log, std::optional<int64_t> from_ms);

// A log's rows in terms of other rows.
struct RowMap {
  std::vector<ItemRow> items;  // by the log's row
  std::vector<TypeRow> types;

  ModelToken operator()(const ModelToken& token) const {
    return {items[Raw(token.item)], types[Raw(token.type)], token.time_s};
  }
};
RowMap MapRows(const Vocabulary& log, const Vocabulary& model);
RowMap SameRows(const Vocabulary& log);

// How much of a log a model knows.
struct KnownShare {
  int64_t items = 0;
  int64_t known_items = 0;
  int64_t events = 0;
  int64_t known_events = 0;  // of known items
};
KnownShare KnownOf(const EventLog& log, const Vocabulary& model);

}  // namespace freshet
