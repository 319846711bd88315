// Commits of a group's offsets, at least once. Internal to ingest/kafka*.cc.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "core/ids.h"
#include "core/result.h"
#include "ingest/kafka_common.h"

struct rd_kafka_queue_s;

namespace freshet::kafka {

// One request at a time is on its way; what the brokers have not taken stays pending. State is durable and knows its
// own position, so events need not wait for an answer. (rd_kafka_commit() would wait for an absent coordinator for
// 45 s.) For the thread of the consumer.
class OffsetCommits {
 public:
  // All outlive this; `client` is a consumer of the group.
  OffsetCommits(rd_kafka_s* client, const std::string& topic, Health& health);

  // `next`: of the event that is to be read next; `origin`: where the application began.
  void Add(PartitionId partition, Offset next, Offset origin) { pending_[partition] = {next, origin}; }
  void Forget(PartitionId partition) { pending_.erase(partition); }
  void Clear() { pending_.clear(); }
  bool empty() const { return pending_.empty(); }

  // Sends what is pending, and waits up to `patience` for the answers. No error where another try may help.
  Status Send(std::chrono::milliseconds patience = {});

 private:
  struct QueueDeleter {
    void operator()(rd_kafka_queue_s* queue) const;
  };

  struct Position {
    Offset next{};
    Offset origin{};
    bool operator==(const Position&) const = default;
  };

  Status Answered(int code);

  rd_kafka_s* const client_;
  const std::string& topic_;
  Health& health_;
  const std::unique_ptr<rd_kafka_queue_s, QueueDeleter> answers_;
  std::map<PartitionId, Position> pending_;
  std::map<PartitionId, Position> sent_;  // those of them that wait for an answer
};

}  // namespace freshet::kafka
