// The topic that snapshots of state live in.
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <set>
#include <string>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_partitions.h"
#include "ingest/kafka_range.h"

namespace freshet {
namespace {

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// Replicated as the brokers' default says.
Status CreateCompacted(rd_kafka_t* client, const std::string& topic, int partitions) {
  std::array<char, 512> message{};
  const Owned<rd_kafka_NewTopic_t> wanted(
      rd_kafka_NewTopic_new(topic.c_str(), partitions, -1, message.data(), message.size()), &rd_kafka_NewTopic_destroy);
  if (wanted == nullptr) return Error(ErrorCode::kInvalidArgument, "snapshots.topic: " + topic + ": " + message.data());
  rd_kafka_NewTopic_set_config(wanted.get(), "cleanup.policy", "compact");
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(client), &rd_kafka_queue_destroy);
  rd_kafka_NewTopic_t* topics[] = {wanted.get()};
  rd_kafka_CreateTopics(client, topics, 1, nullptr, answers.get());
  const Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(answers.get(), 30'000), &rd_kafka_event_destroy);
  if (event == nullptr) return kafka::MakeError(topic, RD_KAFKA_RESP_ERR__TIMED_OUT);
  auto code = rd_kafka_event_error(event.get());
  size_t count = 0;
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const auto* const results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
    if (count == 1) code = rd_kafka_topic_result_error(results[0]);
  }
  // Another instance may have been first.
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) return {};
  const Error failure = kafka::MakeError("snapshots.topic " + topic + ": create", code);
  if (failure.retriable()) return failure;
  return Error(failure.code(), failure.message() + ". Create it with: kafka-topics.sh --create --topic " + topic +
                                   " --partitions " + std::to_string(partitions) + " --config cleanup.policy=compact");
}

Result<std::set<PartitionId>> EmptyPartitions(const KafkaOptions& options, int partitions, const Waiting& waiting) {
  std::set<PartitionId> empty;
  const Status asked = kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    const kafka::PartitionLookup lookup(client, options.snapshots_topic, kafka::Start{});
    for (PartitionId id{0}; Raw(id) < partitions; id = PartitionId{Raw(id) + 1}) {
      ASSIGN_OR_RETURN(const kafka::Facts facts, lookup.AskRange(id));
      if (facts.range.begin == facts.range.end) empty.insert(id);
    }
    return {};
  });
  return asked.ok() ? Result<std::set<PartitionId>>(std::move(empty)) : asked.error();
}

}  // namespace

Result<int> CountSourcePartitions(const KafkaOptions& options, const Waiting& waiting) {
  int partitions = 0;
  RETURN_IF_ERROR(kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    ASSIGN_OR_RETURN(partitions, kafka::PartitionsOf(client, options.source_topic));
    return {};
  }));
  return partitions;
}

Result<std::set<PartitionId>> MakeSnapshotTopic(const KafkaOptions& options, int partitions, const Waiting& waiting) {
  int found = 0;
  const Status asked = kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    ASSIGN_OR_RETURN(found, kafka::PartitionsOf(client, options.snapshots_topic));
    if (found > 0) return {};
    RETURN_IF_ERROR(CreateCompacted(client, options.snapshots_topic, partitions));
    spdlog::info("kafka: made topic {} for snapshots of state: {} partitions, compacted", options.snapshots_topic,
                 partitions);
    found = partitions;
    return {};
  });
  RETURN_IF_ERROR(asked);
  if (found == partitions) return EmptyPartitions(options, partitions, waiting);
  return Error(ErrorCode::kInvalidArgument, "snapshots.topic: " + options.snapshots_topic + " has " +
                                                std::to_string(found) + " partitions, expected " +
                                                std::to_string(partitions) + ", as many as " + options.source_topic);
}

Result<std::unique_ptr<EventSource>> ReadSnapshot(const KafkaOptions& options, PartitionId partition) {
  KafkaOptions reader = options;
  reader.source_topic = options.snapshots_topic;
  reader.instance.clear();
  TopicRange range;
  const auto once = [](const std::string&) { return false; };
  const Status asked = kafka::AskUntilAnswered(reader, once, [&](rd_kafka_s* client) -> Status {
    const kafka::PartitionLookup lookup(client, reader.source_topic, kafka::Start{});
    ASSIGN_OR_RETURN(const kafka::Facts facts, lookup.AskRange(partition));
    range = {{partition, facts.range.begin, facts.range.end}};
    return {};
  });
  if (!asked.ok()) {
    const bool later = asked.error().code() == ErrorCode::kCancelled;
    return later ? Error(ErrorCode::kUnavailable, asked.error().message()) : asked.error();
  }
  return MakeKafkaRangeSource(reader, range, 0, 1, nullptr);
}

}  // namespace freshet
