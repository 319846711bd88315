// `freshet replay --from --to`: which range of source.topic is read.
#pragma once

#include <string>

#include "core/result.h"
#include "ingest/kafka_range.h"
#include "state/store.h"

namespace freshet {

struct RangeFlags {
  std::string from;  // empty: earliest, where `to` is given
  std::string to;    // empty: latest, where `from` is given

  bool given() const { return !from.empty() || !to.empty(); }
  const std::string& begin() const;
  const std::string& end() const;
};

// How state is bound to a range (BindStateTo).
std::string NameOf(const RangeFlags& flags, const KafkaOptions& kafka);

// Settles the range at the first start and keeps its offsets in `states`, so that a restart ends where the first run
// would have.
Result<TopicRange> RangeFor(const RangeFlags& flags, const KafkaOptions& kafka, StateDirectory& states,
                            const Waiting& waiting);

// How many partitions the input has that `states` are of.
Result<int> InputPartitionsOf(const StateDirectory& states);

}  // namespace freshet
