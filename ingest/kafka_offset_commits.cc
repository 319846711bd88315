#include "ingest/kafka_offset_commits.h"

#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include "ingest/kafka_partitions.h"

namespace freshet::kafka {

void OffsetCommits::QueueDeleter::operator()(rd_kafka_queue_s* queue) const { rd_kafka_queue_destroy(queue); }

OffsetCommits::OffsetCommits(rd_kafka_s* client, const std::string& topic, Health& health)
    : client_(client), topic_(topic), health_(health), answers_(rd_kafka_queue_new(client)) {}

Status OffsetCommits::Send(std::chrono::milliseconds patience) {
  while (!pending_.empty()) {
    if (sent_.empty()) {
      const PartitionList list = MakePartitionList();
      for (const auto& [id, next] : pending_) AddCommit(list, topic_, id, next);
      const auto code = rd_kafka_commit_queue(client_, list.get(), answers_.get(), nullptr, nullptr);
      if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return Answered(code);
      sent_ = pending_;
    }
    const std::unique_ptr<rd_kafka_event_t, decltype(&rd_kafka_event_destroy)> answer(
        rd_kafka_queue_poll(answers_.get(), health_.down() ? 0 : static_cast<int>(patience.count())),
        &rd_kafka_event_destroy);
    if (answer == nullptr) return {};
    auto code = rd_kafka_event_error(answer.get());
    const auto* const list = rd_kafka_event_topic_partition_list(answer.get());
    for (int i = 0; list != nullptr && i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; ++i)
      code = list->elems[i].err;
    const Status status = Answered(code);
    sent_.clear();
    if (!status.ok() || code != RD_KAFKA_RESP_ERR_NO_ERROR) return status;
  }
  return {};
}

// `code`: an rd_kafka_resp_err_t
Status OffsetCommits::Answered(int code) {
  const auto error = static_cast<rd_kafka_resp_err_t>(code);
  switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
      health_.OnAnswer();
      std::erase_if(pending_, [&](const auto& entry) {
        const auto sent = sent_.find(entry.first);
        return sent != sent_.end() && sent->second == entry.second;
      });
      return {};
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    case RD_KAFKA_RESP_ERR__FATAL:
      // The group went on without us: the partitions are somebody else's, and the revocation, or what is fatal, is on
      // its way.
      spdlog::info("kafka: {}: commit refused ({})", topic_, rd_kafka_err2name(error));
      pending_.clear();
      return {};
    default:
      break;
  }
  if (!IsTransient(code)) return MakeError(topic_ + ": commit of offsets", code);
  spdlog::debug("kafka: {}: commit of offsets put off ({})", topic_, rd_kafka_err2name(error));
  return {};
}

}  // namespace freshet::kafka
