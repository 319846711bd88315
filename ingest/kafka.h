// Kafka in and out, on librdkafka, whose headers stay in kafka*.cc.
//
// A worker has one consumer (a member of the group `application`) and one producer. Assignor: range and roundrobin with
// librdkafka older than 2.10, whose cooperative-sticky loses partitions (librdkafka #4783, #4908); chosen by
// rd_kafka_version() at run time and logged with the reason.
//
// Exactly once: Commit() of the sink ends a transaction that holds its records and the source's positions; then state
// follows. At least once: Commit() of the sink is a flush whose every delivery report was good; then state, then the
// source's offset commit. A crash between flush and state publishes the events of one commit interval again.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "ingest/event_source.h"
#include "ingest/record.h"
#include "ingest/record_sink.h"

namespace freshet {

// What a range gap does: source.on_offset_gap.
enum class OffsetGapPolicy { kFail, kRebuild, kAccept };

struct KafkaOptions {
  std::string application;  // consumer group
  // Who this is among the processes of the application, the same after a restart: with it each worker is a static
  // member of the group, so that a restart moves no partition. Empty: an ordinary member, and no transactions.
  std::string instance;
  int worker = 0;  // of this process
  // host:port where other instances send those who ask for this one's users, told by the members' client.id; empty:
  // none.
  std::string advertise;
  // How long a transaction may live; what a dead worker left open hides what follows it for as long.
  std::chrono::milliseconds transaction_timeout{10'000};
  std::string bootstrap_servers;
  std::map<std::string, std::string> properties;  // librdkafka's, verbatim; they win over ours
  std::string source_topic;
  int source_partitions = 0;       // that it has to have, also while it is read: users are told apart by them; 0: any
  std::string start = "earliest";  // earliest | latest | an ISO 8601 time; where nothing is committed
  OffsetGapPolicy on_offset_gap = OffsetGapPolicy::kFail;
  std::string recommendations_topic;
  std::string dead_letters_topic;
  std::string snapshots_topic;  // empty: none
  // Asked at least once a second while a sink waits for brokers that take nothing; false gives up with kCancelled.
  // Absent: it waits as long as librdkafka's message.timeout.ms (15 minutes).
  std::function<bool()> keep_waiting;
  // The same while a transactional sink is made: nothing is on its way yet that could still arrive.
  std::function<bool()> keep_starting;
};

// Error, as at the start, where librdkafka does not know this one of KafkaOptions::properties, or refuses its value, or
// where freshet sets it itself. Asks no broker.
Status CheckKafkaProperty(const std::string& name, const std::string& value);

// Bytes of key and value that the producer takes in one record.
Result<size_t> MaxRecordBytes(const KafkaOptions& options);

// Why a topic that does not have as many partitions as state was built from is not read.
Error OtherPartitions(const std::string& topic, int before, int now);

// Told about once a second why the brokers are waited for; false gives up, with kCancelled.
using Waiting = std::function<bool(const std::string& reason)>;

// Waits until the brokers answer; then checks that the three topics (those of them that are not empty) exist. The error
// names the topics that are missing and the command that creates them.
Status CheckTopics(const KafkaOptions& options, const Waiting& waiting);

// How many partitions options.source_topic has.
Result<int> CountSourcePartitions(const KafkaOptions& options, const Waiting& waiting);

// Makes options.snapshots_topic, compacted, unless it exists; kInvalidArgument where it has another number of
// `partitions` than the source, or another cleanup.policy (a warning where the brokers do not tell). Its partitions
// that have no record.
Result<std::set<PartitionId>> MakeSnapshotTopic(const KafkaOptions& options, int partitions, const Waiting& waiting);

// The records of one partition of options.snapshots_topic, from the first to what is the end now. kUnavailable: the
// brokers do not answer.
Result<std::unique_ptr<EventSource>> ReadSnapshot(const KafkaOptions& options, PartitionId partition);

// Waits until the brokers answer; kInvalidArgument where the consumer group `application` has members, that is, where a
// `freshet run` publishes to the same topics, or did so within its session.timeout.ms.
Status CheckNobodyRuns(const KafkaOptions& options, const Waiting& waiting);

Result<std::unique_ptr<EventSource>> MakeKafkaSource(const KafkaOptions& options);
Result<std::unique_ptr<RecordSink>> MakeKafkaSink(const KafkaOptions& options);

// Both ends of one worker, exactly once. The source outlives the sink.
struct KafkaEnds {
  std::unique_ptr<EventSource> source;
  std::unique_ptr<RecordSink> sink;
};
Result<KafkaEnds> MakeTransactionalKafkaEnds(const KafkaOptions& options);

// Events from elsewhere than a log, on their way to the source topic, each to the partition of its key (murmur2, as
// Java's clients have it, unless kafka.properties.partitioner says otherwise). No record is sent twice.
// Threads: any.
class EventWriter {
 public:
  // What still waits is told that it was given up.
  virtual ~EventWriter() = default;

  // Without a value: a tombstone. Waits for nobody. `done` is called once: with the record's place, once all in-sync
  // replicas have it; or with an error: kInvalidArgument where the record is too large, else kUnavailable, and then it
  // may come to be there all the same. It runs here or on the writer's own thread, which it must not keep. `trace`
  // becomes the record's headers.
  virtual void Write(std::string_view key, std::optional<std::string_view> value, const TraceContext& trace,
                     std::function<void(Result<PartitionPosition>)> done) = 0;
};

// `patience`: for how long an event may wait for its acknowledgement.
Result<std::unique_ptr<EventWriter>> MakeEventWriter(const KafkaOptions& options, std::chrono::milliseconds patience);

// Which instance of the application has which users, of those that tell their address (KafkaOptions::advertise).
// Threads: any.
class PartitionOwners {
 public:
  struct Owner {
    PartitionId partition;
    std::string address;
    std::chrono::milliseconds age;  // since the group's coordinator said so
  };

  virtual ~PartitionOwners() = default;

  // Of the source partition where events with this key are, by the partitioner of EventWriter. Nothing where that is
  // not known. Waits for nobody: a thread of its own asks every two seconds, one question at a time.
  virtual std::optional<Owner> Find(std::string_view key) const = 0;
};

Result<std::unique_ptr<PartitionOwners>> MakePartitionOwners(const KafkaOptions& options);

// Name and version of the client, e.g. "librdkafka 2.0.2", and why which assignor is used; for the log.
std::string KafkaClientDescription();

}  // namespace freshet
