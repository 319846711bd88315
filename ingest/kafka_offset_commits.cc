#include "ingest/kafka_offset_commits.h"

#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "ingest/kafka_partitions.h"

namespace freshet::kafka {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

void OffsetCommits::QueueDeleter::operator()(rd_kafka_queue_s* queue) const { rd_kafka_queue_destroy(queue); }

OffsetCommits::OffsetCommits(rd_kafka_s* client, const std::string& topic, Health& health)
    : client_(client), topic_(topic), health_(health), answers_(rd_kafka_queue_new(client)) {}

Status OffsetCommits::Send(std::chrono::milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  while (!pending_.empty()) {
    if (sent_.empty()) {
      const PartitionList list = MakePartitionList();
      for (const auto& [id, position] : pending_) AddCommit(list, topic_, id, position.next, position.origin);
      sent_ = pending_;
      const auto code = rd_kafka_commit_queue(client_, list.get(), answers_.get(), nullptr, nullptr);
      if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return Answered(code);
    }
    const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
    const auto wait = health_.down() ? milliseconds(0) : std::max(left, milliseconds(0));
    const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> answer(
        rd_kafka_queue_poll(answers_.get(), static_cast<int>(wait.count())), &rd_kafka_event_destroy);
    if (answer == nullptr) return {};
    auto code = rd_kafka_event_error(answer.get());
    const auto* const list = rd_kafka_event_topic_partition_list(answer.get());
    for (int i = 0; list != nullptr && i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; ++i)
      code = list->elems[i].err;
    const Status status = Answered(code);
    if (!status.ok() || code != RD_KAFKA_RESP_ERR_NO_ERROR) return status;
  }
  return {};
}

// To what was sent, of which nothing is on its way any more. `code`: an rd_kafka_resp_err_t
Status OffsetCommits::Answered(int code) {
  const auto sent = std::exchange(sent_, {});
  const auto settle = [&] {
    std::erase_if(pending_, [&](const auto& entry) {
      const auto found = sent.find(entry.first);
      return found != sent.end() && found->second == entry.second;
    });
  };
  const auto error = static_cast<rd_kafka_resp_err_t>(code);
  switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
      health_.OnAnswer();
      settle();
      return {};
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR__FATAL:
      // The group went on without us: those partitions are somebody else's, and the revocation, or what is fatal, is on
      // its way, or was before this answer.
      spdlog::info("kafka: {}: commit refused ({})", topic_, rd_kafka_err2name(error));
      settle();
      return {};
    default:
      break;
  }
  if (!IsTransient(code)) return MakeError(topic_ + ": commit of offsets", code);
  spdlog::debug("kafka: {}: commit of offsets put off ({})", topic_, rd_kafka_err2name(error));
  return {};
}

}  // namespace freshet::kafka
