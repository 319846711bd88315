// What is checked of the brokers before the first event.
#include <librdkafka/rdkafka.h>

#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_group.h"

namespace freshet {
namespace kafka {
namespace {

Error MissingTopics(const std::vector<std::string>& missing, const std::string& servers) {
  std::string message =
      missing.size() == 1 ? "kafka: this topic does not exist at " : "kafka: these topics do not exist at ";
  message += servers + ": ";
  std::string commands;
  for (const std::string& topic : missing) {
    message += (&topic == &missing.front() ? "" : ", ") + topic;
    commands += (commands.empty() ? "" : " && ") + std::string("kafka-topics.sh --bootstrap-server ") + servers +
                " --create --topic " + topic + " --partitions 8";
  }
  return Error(ErrorCode::kInvalidArgument, message + ". Create with: " + commands);
}

}  // namespace
}  // namespace kafka

Status CheckTopics(const KafkaOptions& options, const Waiting& waiting) {
  std::vector<std::string> missing;
  RETURN_IF_ERROR(kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    missing.clear();
    for (const std::string& topic : {options.source_topic, options.recommendations_topic, options.dead_letters_topic}) {
      if (topic.empty()) continue;
      ASSIGN_OR_RETURN(const int partitions, kafka::PartitionsOf(client, topic));
      if (partitions == 0) missing.push_back(topic);
    }
    return {};
  }));
  return missing.empty() ? Status() : kafka::MissingTopics(missing, options.bootstrap_servers);
}

Status CheckNobodyRuns(const KafkaOptions& options, const Waiting& waiting) {
  int members = 0;
  RETURN_IF_ERROR(kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    return kafka::DescribeGroup(client, options.application, [&](const rd_kafka_ConsumerGroupDescription_t* group) {
      members = group == nullptr ? 0 : static_cast<int>(rd_kafka_ConsumerGroupDescription_member_count(group));
    });
  }));
  if (members == 0) return {};
  return Error(ErrorCode::kInvalidArgument,
               "kafka: application \"" + options.application + "\" runs: its consumer group has " +
                   std::to_string(members) + (members == 1 ? " member" : " members") + ", and what it publishes to " +
                   options.recommendations_topic +
                   " would be mixed with a backfill's. Stop it (it stays a member for its session.timeout.ms), "
                   "or set another application and sink.topic");
}

Result<int> CountSourcePartitions(const KafkaOptions& options, const Waiting& waiting) {
  int partitions = 0;
  RETURN_IF_ERROR(kafka::AskUntilAnswered(options, waiting, [&](rd_kafka_s* client) -> Status {
    ASSIGN_OR_RETURN(partitions, kafka::PartitionsOf(client, options.source_topic));
    return {};
  }));
  return partitions;
}

}  // namespace freshet
