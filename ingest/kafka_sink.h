// The sink of a worker that takes the positions of its own source along. Internal to ingest/kafka*.cc.
#pragma once

#include <memory>

#include "core/result.h"
#include "ingest/kafka_common.h"
#include "ingest/record_sink.h"

struct rd_kafka_consumer_group_metadata_s;

namespace freshet::kafka {

struct GroupMetadataDeleter {
  void operator()(rd_kafka_consumer_group_metadata_s* metadata) const;
};
using GroupMetadata = std::unique_ptr<rd_kafka_consumer_group_metadata_s, GroupMetadataDeleter>;

// A consumer as a member of its group: what tells the brokers whether it may still commit (KIP-447).
class GroupMember {
 public:
  virtual ~GroupMember() = default;
  // Null where its partitions belong to others by now.
  virtual GroupMetadata Metadata() const = 0;
  // Where the application began to read a partition, which commits of its positions carry along.
  virtual Offset Origin(PartitionId partition) const = 0;
};

// `member` outlives the sink, and is used by the same thread.
Result<std::unique_ptr<RecordSink>> MakeTransactionalSink(const KafkaOptions& options, const GroupMember& member);

}  // namespace freshet::kafka
