// What an event leads to: a user's fresh top-k and where it came from.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/ids.h"

namespace freshet {

struct ScoredItem {
  ItemRow row{};
  float score = 0;

  bool operator==(const ScoredItem&) const = default;
};

// Views live as long as the batch that they answer.
struct Recommendation {
  std::string_view user_id;
  int64_t generated_at_ms = 0;
  int64_t sequence_number = 0;  // the user's accepted events, from 1
  // The event that caused it.
  std::string_view topic;
  PartitionId partition{};
  Offset offset{};
  int64_t event_time_ms = 0;
  std::span<const ScoredItem> items;   // best first
  std::span<const float> user_vector;  // [dim] normalised; empty: left out
};

}  // namespace freshet
