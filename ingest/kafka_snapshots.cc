// The topic that snapshots of state live in.
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_partitions.h"
#include "ingest/kafka_range.h"

namespace freshet {
namespace {

using kafka::Owned;

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

// kUnavailable while the brokers do not say; another error where they will not.
Result<std::string> CleanupPolicy(rd_kafka_t* client, const std::string& topic) {
  const std::string where = "snapshots.topic " + topic + ": cleanup.policy";
  const Owned<rd_kafka_ConfigResource_t> resource(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.c_str()),
                                                  &rd_kafka_ConfigResource_destroy);
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(client), &rd_kafka_queue_destroy);
  const Owned<rd_kafka_AdminOptions_t> options(rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS),
                                               &rd_kafka_AdminOptions_destroy);
  std::array<char, 256> message{};
  rd_kafka_AdminOptions_set_request_timeout(options.get(), kafka::kRequestMs, message.data(), message.size());
  rd_kafka_ConfigResource_t* asked = resource.get();
  rd_kafka_DescribeConfigs(client, &asked, 1, options.get(), answers.get());
  const Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(answers.get(), 2 * kafka::kRequestMs),
                                      &rd_kafka_event_destroy);
  if (event == nullptr) return kafka::MakeError(where, RD_KAFKA_RESP_ERR__TIMED_OUT);
  auto code = rd_kafka_event_error(event.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(where, code);
  size_t count = 0;
  const auto* const* const found =
      rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event.get()), &count);
  if (count != 1) return kafka::MakeError(where, RD_KAFKA_RESP_ERR__WAIT_CACHE);
  code = rd_kafka_ConfigResource_error(found[0]);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(where, code);
  const auto* const* const entries = rd_kafka_ConfigResource_configs(found[0], &count);
  for (size_t i = 0; i < count; ++i) {
    const char* const value = rd_kafka_ConfigEntry_value(entries[i]);
    if (std::string_view(rd_kafka_ConfigEntry_name(entries[i])) == "cleanup.policy" && value != nullptr) {
      return std::string(value);
    }
  }
  return Error(ErrorCode::kIo, "kafka: " + where + ": the brokers do not say");
}

// Any other policy deletes users that were not seen for a while.
Status CheckCompacted(const KafkaOptions& options, rd_kafka_t* client) {
  const auto policy = CleanupPolicy(client, options.snapshots_topic);
  if (!policy.ok() && policy.error().retriable()) return policy.error();
  if (!policy.ok()) {
    spdlog::warn("{}; it has to be compact, or users are lost", policy.error().message());
    return {};
  }
  if (*policy == "compact") return {};
  return Error(ErrorCode::kInvalidArgument,
               "snapshots.topic: " + options.snapshots_topic + " has cleanup.policy=" + *policy +
                   ", expected compact: users that were not seen for a while would be deleted. Change it with: "
                   "kafka-configs.sh --bootstrap-server " +
                   options.bootstrap_servers + " --alter --entity-type topics --entity-name " +
                   options.snapshots_topic + " --add-config cleanup.policy=compact");
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

Result<std::set<PartitionId>> MakeSnapshotTopic(const KafkaOptions& options, int partitions, const Waiting& waiting) {
  int found = 0;
  const Status asked = kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    ASSIGN_OR_RETURN(found, kafka::PartitionsOf(client, options.snapshots_topic));
    if (found > 0) return CheckCompacted(options, client);
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
