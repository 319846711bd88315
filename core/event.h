// The vocabulary of the data path: what happened (Event), what state keeps of it (Token), what a model sees of it
// (ModelToken).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/ids.h"

namespace freshet {

// One click, decoded, or the wish to be forgotten. Views into the record batch that it came with, and dead with it.
struct Event {
  std::string_view user_id;
  std::string_view item_id;
  std::string_view event_type;
  std::string_view event_id;  // empty where the log carries none
  int64_t timestamp_ms = 0;   // event time, epoch milliseconds, >= 0
  bool forget = false;        // what is known of the user goes; the other fields say nothing
};

// What a user's sequence keeps of an event. Independent of any model.
struct Token {
  ItemHash item{};
  TypeHash type{};
  int64_t time_ms = 0;

  bool operator==(const Token&) const = default;
};

// A token in a model's terms: rows of its vocabulary, time in whole seconds (floored).
struct ModelToken {
  ItemRow item = kUnknownItem;
  TypeRow type = kUnknownType;
  int64_t time_s = 0;

  bool operator==(const ModelToken&) const = default;
};

}  // namespace freshet
