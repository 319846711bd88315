// The two guarantees of a Kafka sink: at least once (a flush), and exactly once (a transaction that takes the input's
// positions along, KIP-447).
#include "ingest/kafka_sink.h"

#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/fail_point.h"
#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_partitions.h"
#include "ingest/kafka_producer.h"

namespace freshet {
namespace {

using kafka::Producer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

class AtLeastOnceSink final : public RecordSink {
 public:
  explicit AtLeastOnceSink(const KafkaOptions& options) : options_(options), producer_(options_) {}

  Status Connect() { return producer_.Connect(""); }
  Status Publish(std::span<const OutputRecord> records) override { return producer_.Publish(records); }
  // A flush for which every delivery was good; the positions are the source's to commit, once state is durable.
  Status Commit(std::span<const PartitionPosition>) override { return producer_.Flush(); }
  // Drops what is still here; what a broker has cannot be taken back.
  Status Abort() override {
    producer_.Purge();
    return {};
  }

 private:
  const KafkaOptions options_;
  Producer producer_;
};

struct TransactionErrorDeleter {
  void operator()(rd_kafka_error_t* error) const { rd_kafka_error_destroy(error); }
};
using TransactionError = std::unique_ptr<rd_kafka_error_t, TransactionErrorDeleter>;  // null: success

// Whether no other transaction would fare better than the one that this error ended.
bool IsRefused(int code) {
  switch (code) {
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
      return true;
    default:
      return false;
  }
}

// One transaction a commit. Whatever ends one otherwise than by a plain commit costs its producer: the next one's
// init_transactions() ends what was left open, fences requests that are still on their way, and makes certain what
// became of a commit without an answer. So there is one way back from every failure: Abort(), and reading again from
// the committed positions.
class TransactionalSink final : public RecordSink {
 public:
  TransactionalSink(const KafkaOptions& options, const kafka::GroupMember& member)
      : options_(options), id_(kafka::MemberName(options)), member_(member), producer_(options_) {}
  ~TransactionalSink() override { LetGo(KeepWaiting() ? kCallMs : kGoodbyeMs); }

  // A new producer, whose id no other has from now on; waits for brokers as long as one of KafkaOptions says.
  Status Start(const std::function<bool()>& keep_waiting);

  Status Publish(std::span<const OutputRecord> records) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  Status Abort() override;

 private:
  Status Begin();
  bool Hold(std::span<const OutputRecord> records);
  Status Release();
  Status Produce(std::span<const OutputRecord> records);
  Status OrAborted(const Status& delivered);
  Status SendOffsets(std::span<const PartitionPosition> positions);
  Status End();
  Status Failed(const std::string& doing, const TransactionError& error);
  Status Failed(std::string problem, int code);
  Status GaveUp(const std::string& doing, const TransactionError& error);
  std::string Needed() const;
  Status CheckFence(int code);
  void LetGo(int timeout_ms);
  bool KeepWaiting() const { return !options_.keep_waiting || options_.keep_waiting(); }

  // Each partition that a transaction meets costs a request to its coordinator, unless it meets them together; and
  // librdkafka 2.0 waits a millisecond behind each, spinning. So the first records are held back until they are likely
  // to be for most partitions. Nobody sees them before the commit anyway.
  static constexpr size_t kHeldRecords = 256;
  static constexpr auto kHoldFor = milliseconds(40);
  static constexpr int kCallMs = 1000;   // between two looks at whether to go on waiting
  static constexpr int kGoodbyeMs = 50;  // for what only spares others a wait

  const KafkaOptions options_;
  const std::string id_;
  const kafka::GroupMember& member_;
  Producer producer_;
  bool open_ = false;
  bool failed_ = false;  // the open transaction; only Abort() goes on
  bool worn_ = false;    // the producer is not fit for another transaction
  steady_clock::time_point began_;
  bool holding_ = false;
  struct Held {
    std::string key;
    std::optional<std::string> value;
    std::string traceparent, tracestate;
  };
  std::vector<Held> held_;  // recommendations
  int aborts_ = 0;          // since the last commit
  kafka::Fences fences_;
};

Status TransactionalSink::Start(const std::function<bool()>& keep_waiting) {
  RETURN_IF_ERROR(producer_.Connect(id_));
  worn_ = open_ = failed_ = false;
  bool told = false;
  const auto began = steady_clock::now();
  while (true) {
    const TransactionError error(rd_kafka_init_transactions(producer_.client(), kCallMs));
    if (error == nullptr) return {};
    const int code = rd_kafka_error_code(error.get());
    const std::string problem = "kafka: transactional.id " + id_ + ": " + rd_kafka_error_string(error.get());
    if (code == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE) {
      return Error(ErrorCode::kInvalidArgument,
                   problem + "; processing.guarantee exactly_once needs brokers with transactions, Kafka 2.5 or later");
    }
    const Status status = producer_.status();
    if (!status.ok() && !status.error().retriable()) return status;
    if (IsRefused(code) || rd_kafka_error_is_fatal(error.get()) != 0 || !rd_kafka_error_is_retriable(error.get())) {
      return Error(ErrorCode::kIo, problem);
    }
    if (steady_clock::now() - began > seconds(10) && !std::exchange(told, true)) spdlog::warn("{}; waiting", problem);
    if (keep_waiting && !keep_waiting()) return Error(ErrorCode::kCancelled, problem);
  }
}

Status TransactionalSink::Publish(std::span<const OutputRecord> records) {
  RETURN_IF_ERROR(Begin());
  if (Hold(records)) return {};
  RETURN_IF_ERROR(Release());
  return Produce(records);
}

bool TransactionalSink::Hold(std::span<const OutputRecord> records) {
  const auto other = [](const OutputRecord& record) { return record.stream != Stream::kRecommendations; };
  if (!holding_ || held_.size() + records.size() > kHeldRecords || steady_clock::now() - began_ > kHoldFor ||
      std::any_of(records.begin(), records.end(), other)) {
    return false;
  }
  for (const OutputRecord& record : records) {
    Held& held = held_.emplace_back();
    held.key = record.key;
    if (record.value.data() != nullptr) held.value = record.value;
    held.traceparent = record.trace.traceparent;
    held.tracestate = record.trace.tracestate;
  }
  return true;
}

Status TransactionalSink::Release() {
  holding_ = false;
  if (held_.empty()) return {};
  std::vector<OutputRecord> records;
  records.reserve(held_.size());
  for (const Held& held : held_) {
    OutputRecord& record = records.emplace_back();
    record.key = held.key;
    if (held.value) record.value = *held.value;
    record.trace = {held.traceparent, held.tracestate};
  }
  RETURN_IF_ERROR(Produce(records));
  held_.clear();
  return {};
}

Status TransactionalSink::Produce(std::span<const OutputRecord> records) {
  RETURN_IF_ERROR(FailPoint("before_produce"));
  const Status published = producer_.Publish(records);
  RETURN_IF_ERROR(FailPoint("after_produce"));
  return OrAborted(published);
}

// A delivery that may fare better in another transaction ends this one.
Status TransactionalSink::OrAborted(const Status& delivered) {
  if (delivered.ok() || !delivered.error().retriable()) return delivered;
  return Failed(delivered.error().message(), rd_kafka_fatal_error(producer_.client(), nullptr, 0));
}

Status TransactionalSink::Begin() {
  if (failed_) return Error(ErrorCode::kAborted, "kafka: the transaction has failed");
  if (open_) return {};
  if (worn_) RETURN_IF_ERROR(Start(options_.keep_waiting));
  RETURN_IF_ERROR(FailPoint("before_begin"));
  const TransactionError error(rd_kafka_begin_transaction(producer_.client()));
  if (error != nullptr) return Failed("begin", error);
  open_ = holding_ = true;
  held_.clear();
  began_ = steady_clock::now();
  return FailPoint("after_begin");
}

Status TransactionalSink::Commit(std::span<const PartitionPosition> positions) {
  if (!open_ && positions.empty()) return {};
  RETURN_IF_ERROR(Begin());
  RETURN_IF_ERROR(Release());
  const int64_t closed = producer_.closed_connections();
  RETURN_IF_ERROR(SendOffsets(positions));
  RETURN_IF_ERROR(OrAborted(producer_.Flush()));  // rd_kafka_commit_transaction() would take longer over it
  RETURN_IF_ERROR(FailPoint("before_commit"));
  RETURN_IF_ERROR(End());
  RETURN_IF_ERROR(FailPoint("after_commit"));
  open_ = false;
  aborts_ = 0;
  // A request that was sent again over a new connection may reach the broker twice, the second time during the next
  // transaction, which it would end (librdkafka #5423; KIP-890 closes this hole). A new producer's epoch fences it.
  worn_ = producer_.closed_connections() != closed;
  return {};
}

Status TransactionalSink::SendOffsets(std::span<const PartitionPosition> positions) {
  RETURN_IF_ERROR(FailPoint("before_send_offsets"));
  const kafka::GroupMetadata metadata = member_.Metadata();
  if (metadata == nullptr) {
    failed_ = true;
    return Error(ErrorCode::kAborted, "kafka: " + id_ + ": left the group");
  }
  const kafka::PartitionList list = kafka::MakePartitionList();
  for (const PartitionPosition& position : positions) {
    kafka::AddCommit(list, options_.source_topic, position.partition, position.next,
                     member_.Origin(position.partition));
  }
  while (true) {
    const TransactionError error(
        rd_kafka_send_offsets_to_transaction(producer_.client(), list.get(), metadata.get(), kCallMs));
    if (error == nullptr) return FailPoint("after_send_offsets");
    if (!rd_kafka_error_is_retriable(error.get())) return Failed("offsets of the input", error);
    if (!KeepWaiting()) return GaveUp("offsets of the input", error);
  }
}

Status TransactionalSink::End() {
  while (true) {
    // A call that times out leaves its request on its way; the next one waits for the same request.
    const TransactionError error(rd_kafka_commit_transaction(producer_.client(), kCallMs));
    if (error == nullptr) return {};
    if (!rd_kafka_error_is_retriable(error.get())) return Failed("commit", error);
    if (!KeepWaiting()) return GaveUp("commit", error);
    std::this_thread::sleep_for(milliseconds(10));
  }
}

Status TransactionalSink::Failed(const std::string& doing, const TransactionError& error) {
  return Failed("kafka: " + id_ + ": " + doing + ": " + rd_kafka_error_string(error.get()),
                rd_kafka_error_code(error.get()));
}

// What the pipeline is to do about an error: go back to the committed positions, or end.
Status TransactionalSink::Failed(std::string problem, int code) {
  failed_ = true;
  // What failed may not be what says why: then it is a state that is wrong, or a record that was dropped. A transaction
  // that has failed lets nobody begin another, for the reason that it failed for.
  const TransactionError cause(rd_kafka_begin_transaction(producer_.client()));
  if (cause != nullptr && rd_kafka_error_txn_requires_abort(cause.get()) && rd_kafka_error_code(cause.get()) != code) {
    code = rd_kafka_error_code(cause.get());
    problem += std::string(": ") + rd_kafka_error_string(cause.get());
  }
  const Status status = producer_.status();
  if (!status.ok() && !status.error().retriable()) return status;
  if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) return Error(ErrorCode::kIo, problem + Needed());
  if (IsRefused(code)) return Error(ErrorCode::kIo, problem);
  RETURN_IF_ERROR(CheckFence(code));
  return Error(ErrorCode::kAborted, problem);
}

// Asked to stop, and the brokers do not answer: whoever starts next finds out what became of the transaction.
Status TransactionalSink::GaveUp(const std::string& doing, const TransactionError& error) {
  failed_ = true;
  return Error(ErrorCode::kCancelled, "kafka: " + id_ + ": " + doing + ": " + rd_kafka_error_string(error.get()) +
                                          ", when asked to stop; its events are processed again at the next start");
}

// librdkafka does not say which topic it was.
std::string TransactionalSink::Needed() const {
  std::string topics;
  for (const std::string& topic :
       {options_.recommendations_topic, options_.dead_letters_topic, options_.snapshots_topic}) {
    if (!topic.empty()) topics += (topics.empty() ? "" : ", ") + topic;
  }
  return ". Needed: Write and Describe on each of " + topics + "; Read on " + options_.source_topic;
}

// A transaction that outlived its timeout looks like one that another producer of the same id has fenced. The former is
// over with a new producer; the latter would go on for ever, each fencing the other.
Status TransactionalSink::CheckFence(int code) {
  if (!kafka::IsFence(code) || steady_clock::now() - began_ > producer_.transaction_timeout() / 2) return {};
  if (!fences_.AnotherIsBelieved()) return {};
  return Error(ErrorCode::kIo, "kafka: transactional.id " + id_ +
                                   ": fenced again and again: another process uses it, whose state directory is a copy "
                                   "of this one. Stop one of them, and give it an empty state.directory");
}

// Waits a little longer each time in a row, then begins anew.
Status TransactionalSink::Abort() {
  if (!open_ && !failed_) return {};
  const auto until = steady_clock::now() + std::min(milliseconds(25) * (1 << std::min(aborts_, 8)), milliseconds(5000));
  if (aborts_++ > 0) {
    while (steady_clock::now() < until && KeepWaiting()) std::this_thread::sleep_for(milliseconds(25));
  }
  LetGo(kGoodbyeMs);
  return Start(options_.keep_waiting);
}

// Readers, and whoever takes the partitions over, need not wait for the timeout of an open transaction. And librdkafka
// 2.0 may fail an assertion of its own (txn_req_cnt > 0) where a producer goes that is about to add partitions to one;
// asked to abort it, it adds no more, even if no broker answers in time.
void TransactionalSink::LetGo(int timeout_ms) {
  if (!open_ || producer_.client() == nullptr) return;
  producer_.Purge();
  const TransactionError ignored(rd_kafka_abort_transaction(producer_.client(), timeout_ms));
}

}  // namespace

Result<std::unique_ptr<RecordSink>> MakeKafkaSink(const KafkaOptions& options) {
  auto sink = std::make_unique<AtLeastOnceSink>(options);
  RETURN_IF_ERROR(sink->Connect());
  return std::unique_ptr<RecordSink>(std::move(sink));
}

Result<std::unique_ptr<RecordSink>> kafka::MakeTransactionalSink(const KafkaOptions& options,
                                                                 const GroupMember& member) {
  auto sink = std::make_unique<TransactionalSink>(options, member);
  RETURN_IF_ERROR(sink->Start(options.keep_starting));
  return std::unique_ptr<RecordSink>(std::move(sink));
}

}  // namespace freshet
