// What is checked of the brokers before the first event.
#include <librdkafka/rdkafka.h>

#include <array>
#include <string>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"

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

// Of the consumer group; 0 where there is no such group. Only its coordinator has to answer.
Result<int> MembersOf(rd_kafka_t* client, const std::string& group) {
  const std::string where = "consumer group " + group;
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(client), &rd_kafka_queue_destroy);
  const Owned<rd_kafka_AdminOptions_t> options(
      rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS), &rd_kafka_AdminOptions_destroy);
  std::array<char, 256> message{};
  rd_kafka_AdminOptions_set_request_timeout(options.get(), kRequestMs, message.data(), message.size());
  const char* name = group.c_str();
  rd_kafka_DescribeConsumerGroups(client, &name, 1, options.get(), answers.get());
  const Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(answers.get(), 2 * kRequestMs), &rd_kafka_event_destroy);
  if (event == nullptr) return MakeError(where, RD_KAFKA_RESP_ERR__TIMED_OUT);
  const auto failure = rd_kafka_event_error(event.get());
  if (failure != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(where, failure);
  size_t count = 0;
  const auto* const groups =
      rd_kafka_DescribeConsumerGroups_result_groups(rd_kafka_event_DescribeConsumerGroups_result(event.get()), &count);
  if (count != 1) return MakeError(where, RD_KAFKA_RESP_ERR__WAIT_CACHE);
  const auto code = rd_kafka_error_code(rd_kafka_ConsumerGroupDescription_error(groups[0]));
  if (code == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) return 0;
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(where, code);
  return static_cast<int>(rd_kafka_ConsumerGroupDescription_member_count(groups[0]));
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
    ASSIGN_OR_RETURN(members, kafka::MembersOf(client, options.application));
    return {};
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
