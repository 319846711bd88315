#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "ingest/kafka_common.h"
#include "ingest/kafka_partitions.h"
#include "ingest/kafka_range.h"

namespace freshet {
namespace {

using kafka::AddPartition;
using kafka::Facts;
using kafka::PartitionList;
using kafka::Start;
using std::chrono::milliseconds;

class KafkaRangeSource final : public EventSource {
 public:
  KafkaRangeSource(const KafkaOptions& options, const CommitLog* commit_log)
      : options_(options), commit_log_(commit_log), health_("consumer of " + options.source_topic, nullptr) {}
  ~KafkaRangeSource() override { (void)Leave(); }

  Status Connect(const TopicRange& range, int worker, int workers);

  Status Open(AssignmentListener& listener) override;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, milliseconds wait) override;
  // The commit log is written with the outputs; there is nothing else to tell.
  Status Commit(std::span<const PartitionPosition>) override { return {}; }
  Status Close() override;
  bool Joined() const override { return announced_; }
  std::optional<double> Progress() const override;

 private:
  struct Partition {
    Offset begin{};
    Offset end{};
    Offset next{};
    bool advanced = false;  // since positions were last reported

    bool done() const { return next >= end; }
  };

  Status Announce();
  Status Assign();
  Status CheckHeld(PartitionId id, const Partition& partition);
  Error SnapshotGone(PartitionId id, bool cut, Offset holds, Offset wanted) const;
  bool Done() const;
  Status OnMessage(const rd_kafka_message_t& message, RecordBatch& batch);
  Status OnError(const rd_kafka_message_t& message);
  void Advance(PartitionId id, Partition& partition, Offset next);
  void ReportPositions(RecordBatch& batch);
  Status Leave();

  const KafkaOptions options_;
  const CommitLog* const commit_log_;
  kafka::Health health_;
  kafka::Client client_;
  std::optional<kafka::PartitionLookup> lookup_;
  AssignmentListener* listener_ = nullptr;

  std::map<PartitionId, Partition> partitions_;  // this worker's
  bool announced_ = false;
  bool assignment_due_ = true;  // librdkafka has to be told where to read
  bool topic_gone_ = false;     // deleted while we read it
  kafka::Probe probe_;
};

Status KafkaRangeSource::Connect(const TopicRange& range, int worker, int workers) {
  for (const PartitionRange& part : range) {
    if (Raw(part.partition) % workers == worker) partitions_[part.partition] = {part.begin, part.end, part.begin};
  }
  ASSIGN_OR_RETURN(client_, kafka::MakeClient(kafka::ClientKind::kConsumer, options_, kafka::ReadingDefaults(options_),
                                              health_, [](rd_kafka_conf_s*) {}));
  lookup_.emplace(client_.get(), options_.source_topic, Start{});
  rd_kafka_poll_set_consumer(client_.get());
  return {};
}

Status KafkaRangeSource::Open(AssignmentListener& listener) {
  listener_ = &listener;
  return {};
}

Result<PollState> KafkaRangeSource::Poll(RecordBatch& batch, size_t max_records, milliseconds wait) {
  RETURN_IF_ERROR(Announce());
  const size_t limit = batch.records.size() + max_records;
  auto timeout_ms = static_cast<int>(wait.count());
  while (batch.records.size() < limit && !Done()) {
    RETURN_IF_ERROR(Assign());
    const kafka::Message message(rd_kafka_consumer_poll(client_.get(), timeout_ms));
    RETURN_IF_ERROR(health_.status());
    if (message == nullptr) break;
    timeout_ms = 0;
    RETURN_IF_ERROR(OnMessage(*message, batch));
  }
  ReportPositions(batch);
  if (health_.down() && probe_.Due()) kafka::Probe::Ask(client_.get(), health_);
  return Done() ? PollState::kEnd : PollState::kMore;
}

Status KafkaRangeSource::Announce() {
  if (announced_) return {};
  announced_ = true;
  for (auto& [id, partition] : partitions_) {
    const auto committed = commit_log_ == nullptr ? std::nullopt : commit_log_->Committed(id);
    // State may be behind the range's beginning: what lies before it only changes state.
    ASSIGN_OR_RETURN(const auto position, listener_->OnAssigned({id, committed.value_or(partition.begin)}));
    if (commit_log_ != nullptr) RETURN_IF_ERROR(commit_log_->CheckState(id, position));
    partition.next = position.value_or(partition.begin);
    partition.advanced = !position;
    spdlog::info("kafka: {}: reading offsets {} to {}, committed {}", lookup_->Name(id), Raw(partition.next),
                 Raw(partition.end), committed ? std::to_string(Raw(*committed)) : "nothing");
  }
  return {};
}

// Reads all partitions that are not done, each at its position. Brokers that do not answer put it off to the next
// Poll().
Status KafkaRangeSource::Assign() {
  if (!assignment_due_) return {};
  const PartitionList list = kafka::MakePartitionList();
  for (const auto& [id, partition] : partitions_) {
    if (partition.done()) continue;
    const Status held = CheckHeld(id, partition);
    if (!held.ok() && held.error().retriable()) {
      spdlog::debug("{}; it is read later", held.error().message());
      return {};
    }
    RETURN_IF_ERROR(held);
    AddPartition(list, options_.source_topic, id)->offset = Raw(partition.next);
  }
  assignment_due_ = false;
  const auto code = rd_kafka_assign(client_.get(), list.get());
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? Status() : Status(kafka::MakeError("assign", code));
}

// Whether the topic still holds what is left to read.
Status KafkaRangeSource::CheckHeld(PartitionId id, const Partition& partition) {
  ASSIGN_OR_RETURN(Facts facts, lookup_->AskRange(id));
  RETURN_IF_ERROR(lookup_->Confirm(facts, partition.end));
  const bool gone = partition.next < facts.range.begin;
  if (!gone && partition.end <= facts.range.end) return {};
  const Offset holds = gone ? facts.range.begin : facts.range.end;
  const Offset wanted = gone ? partition.next : partition.end;
  if (options_.source_topic == options_.snapshots_topic) return SnapshotGone(id, gone, holds, wanted);
  return Error(ErrorCode::kNeedsDecision,
               lookup_->Name(id) + ": input " + (gone ? "begins" : "ends") + " at offset " +
                   std::to_string(Raw(holds)) + ", the range " + (gone ? "goes on" : "ends") + " at " +
                   std::to_string(Raw(wanted)) +
                   (gone ? ": events of it are gone" : ": the topic was recreated or truncated") +
                   ". Begin anew with another state.directory and a range that the topic holds");
}

// ReadSnapshot() reads a topic that is compacted, never cut: what is gone are users.
Error KafkaRangeSource::SnapshotGone(PartitionId id, bool cut, Offset holds, Offset wanted) const {
  return Error(ErrorCode::kNeedsDecision,
               "snapshots.topic: " + lookup_->Name(id) + ": the snapshot " + (cut ? "begins" : "ends") + " at offset " +
                   std::to_string(Raw(holds)) + " by now, and was being read " + (cut ? "at " : "up to ") +
                   std::to_string(Raw(wanted)) +
                   (cut ? ": records of it were deleted" : ": the topic was recreated or truncated") +
                   ". State restored from the rest would lack users: name another topic in snapshots.topic to build "
                   "it from the input instead");
}

bool KafkaRangeSource::Done() const {
  return std::all_of(partitions_.begin(), partitions_.end(), [](const auto& entry) { return entry.second.done(); });
}

Status KafkaRangeSource::OnMessage(const rd_kafka_message_t& message, RecordBatch& batch) {
  const bool end_of_log = message.err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR && !end_of_log) return OnError(message);
  const auto found = partitions_.find(PartitionId{message.partition});
  const Offset offset{message.offset};
  // Left over from before an assignment, or behind the range.
  if (found == partitions_.end() || found->second.done() || offset < found->second.next) return {};
  if (end_of_log || offset >= found->second.end) {  // an end of the log lies behind its control records
    Advance(found->first, found->second, offset);
    return {};
  }
  kafka::AppendRecord(message, options_.source_topic, batch);
  Advance(found->first, found->second, Next(offset));
  return {};
}

// To `next`, or to the end of the range, where reading the partition ends.
void KafkaRangeSource::Advance(PartitionId id, Partition& partition, Offset next) {
  next = std::min(next, partition.end);
  partition.advanced |= partition.next != next;
  partition.next = next;
  if (!partition.done()) return;
  const PartitionList list = kafka::MakePartitionList();
  AddPartition(list, options_.source_topic, id);
  rd_kafka_pause_partitions(client_.get(), list.get());
}

Status KafkaRangeSource::OnError(const rd_kafka_message_t& message) {
  switch (message.err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:  // our position is no longer in the log
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
      assignment_due_ = true;
      return {};
    default:
      break;
  }
  return kafka::OnErrorMessage(client_.get(), health_, options_.source_topic, message, topic_gone_);
}

void KafkaRangeSource::ReportPositions(RecordBatch& batch) {
  for (auto& [id, partition] : partitions_) {
    if (std::exchange(partition.advanced, false)) batch.positions.push_back({id, partition.next});
  }
}

Status KafkaRangeSource::Close() {
  for (const auto& [id, partition] : std::exchange(partitions_, {})) {
    if (announced_) RETURN_IF_ERROR(listener_->OnRevoked(id, false));
  }
  return Leave();
}

Status KafkaRangeSource::Leave() {
  if (client_ == nullptr) return {};
  const Status closed = kafka::CloseConsumer(client_.get());
  kafka::Destroy(std::move(client_), topic_gone_);
  return closed;
}

std::optional<double> KafkaRangeSource::Progress() const {
  int64_t total = 0;
  int64_t done = 0;
  for (const auto& [id, partition] : partitions_) {
    total += Raw(partition.end) - Raw(partition.begin);
    done += Raw(partition.next) - Raw(partition.begin);
  }
  return total == 0 ? 1.0 : static_cast<double>(done) / static_cast<double>(total);
}

}  // namespace

Result<std::unique_ptr<EventSource>> MakeKafkaRangeSource(const KafkaOptions& options, const TopicRange& range,
                                                          int worker, int workers, const CommitLog* commit_log) {
  auto source = std::make_unique<KafkaRangeSource>(options, commit_log);
  RETURN_IF_ERROR(source->Connect(range, worker, workers));
  return std::unique_ptr<EventSource>(std::move(source));
}

}  // namespace freshet
