#include "ingest/kafka_group.h"

#include <librdkafka/rdkafka.h>

#include <array>

#include "ingest/kafka_common.h"

namespace freshet::kafka {
namespace {

constexpr int kSliceMs = 100;

}  // namespace

Status DescribeGroup(rd_kafka_s* client, const std::string& group,
                     const std::function<void(const rd_kafka_ConsumerGroupDescription_s*)>& look,
                     const std::function<bool()>& keep_waiting) {
  const std::string where = "consumer group " + group;
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(client), &rd_kafka_queue_destroy);
  const Owned<rd_kafka_AdminOptions_t> options(
      rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS), &rd_kafka_AdminOptions_destroy);
  std::array<char, 256> message{};
  rd_kafka_AdminOptions_set_request_timeout(options.get(), kRequestMs, message.data(), message.size());
  const char* name = group.c_str();
  rd_kafka_DescribeConsumerGroups(client, &name, 1, options.get(), answers.get());
  Owned<rd_kafka_event_t> event(nullptr, &rd_kafka_event_destroy);
  for (int waited = 0; event == nullptr && waited < 2 * kRequestMs; waited += kSliceMs) {
    if (keep_waiting && !keep_waiting()) break;
    event.reset(rd_kafka_queue_poll(answers.get(), kSliceMs));
  }
  if (event == nullptr) return MakeError(where, RD_KAFKA_RESP_ERR__TIMED_OUT);
  const auto failure = rd_kafka_event_error(event.get());
  if (failure != RD_KAFKA_RESP_ERR_NO_ERROR) return MakeError(where, failure);
  size_t count = 0;
  const auto* const groups =
      rd_kafka_DescribeConsumerGroups_result_groups(rd_kafka_event_DescribeConsumerGroups_result(event.get()), &count);
  if (count != 1) return MakeError(where, RD_KAFKA_RESP_ERR__WAIT_CACHE);
  const auto code = rd_kafka_error_code(rd_kafka_ConsumerGroupDescription_error(groups[0]));
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) return MakeError(where, code);
  look(code == RD_KAFKA_RESP_ERR_NO_ERROR ? groups[0] : nullptr);
  return {};
}

}  // namespace freshet::kafka
