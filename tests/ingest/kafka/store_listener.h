// A listener that remembers what it was told, with a "store" of positions.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "ingest/event_source.h"

namespace freshet {

struct StoreListener : AssignmentListener {
  std::map<PartitionId, Offset> stored;  // what the store answers; absent: it has no position
  std::map<PartitionId, Assignment> assigned;
  std::set<PartitionId> current;
  std::vector<std::pair<PartitionId, bool>> revoked;
  std::vector<Assignment> rebuilt;
  std::function<Status(const Assignment&)> on_assigned;
  std::function<Status(PartitionId, bool lost)> on_revoked;

  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override {
    if (on_assigned) RETURN_IF_ERROR(on_assigned(assignment));
    assigned[assignment.partition] = assignment;
    current.insert(assignment.partition);
    const auto found = stored.find(assignment.partition);
    return found == stored.end() ? std::nullopt : std::optional(found->second);
  }

  Status OnRebuild(const Assignment& assignment, bool) override {
    rebuilt.push_back(assignment);
    return {};
  }

  Status OnRevoked(PartitionId partition, bool lost) override {
    revoked.emplace_back(partition, lost);
    current.erase(partition);
    return on_revoked ? on_revoked(partition, lost) : Status();
  }
};

}  // namespace freshet
