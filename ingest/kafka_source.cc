#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/timestamp.h"

namespace freshet {
namespace {

using kafka::Health;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Bound of one request on the polling thread. What it does not get by then is asked for again by the next Poll().
constexpr int kRequestMs = 2000;
// "No committed offset" and an end before our position can be a stale answer (a coordinator that still loads, a new
// leader): they are believed only after so many equal answers.
constexpr int kAnswersToBelieve = 3;
constexpr milliseconds kBetweenAnswers{200};

using List = std::unique_ptr<rd_kafka_topic_partition_list_t, decltype(&rd_kafka_topic_partition_list_destroy)>;
using Message = std::unique_ptr<rd_kafka_message_t, decltype(&rd_kafka_message_destroy)>;

// Offsets that the input holds: [begin, end).
struct Range {
  Offset begin{};
  Offset end{};

  bool Holds(Offset position) const { return begin <= position && position <= end; }
};

// What the brokers say of a partition.
struct Facts {
  PartitionId partition{};
  std::optional<Offset> committed;
  Range range;
  Offset start{};  // what source.start means here
};

// Where reading begins without a state: at source.start, but not behind what is owed an answer.
Offset StartOf(const Facts& facts) {
  const Offset start = facts.committed ? std::min(facts.start, *facts.committed) : facts.start;
  return std::clamp(start, facts.range.begin, facts.range.end);
}

// "1,889"
std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (auto at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string_view Bytes(const void* bytes, size_t size, Arena& arena) {
  if (bytes == nullptr) return {};
  return size == 0 ? std::string_view("") : arena.Copy({static_cast<const char*>(bytes), size});
}

class KafkaSource final : public EventSource {
 public:
  explicit KafkaSource(const KafkaOptions& options)
      : options_(options), health_("consumer of " + options.source_topic, this) {}
  ~KafkaSource() override;

  Status Connect();

  Status Open(AssignmentListener& listener) override;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, milliseconds wait) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  Status Close() override;
  std::vector<std::pair<PartitionId, int64_t>> Lag() const override;

 private:
  struct Partition {
    Offset next{};
    bool advanced = false;  // in the running Poll()
    bool stalled = false;   // `next` is not in the log any more
  };

  static void OnRebalance(rd_kafka_t*, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* partitions,
                          void* health) {
    static_cast<KafkaSource*>(static_cast<Health*>(health)->owner())->Rebalance(code, *partitions);
  }
  void Rebalance(rd_kafka_resp_err_t code, const rd_kafka_topic_partition_list_t& partitions);
  void Revoke(PartitionId partition, bool lost);
  void Drop(PartitionId partition);
  Status Join();
  Status Assign(const rd_kafka_topic_partition_list_t* partitions);

  Result<std::vector<Facts>> LookUp(const std::vector<PartitionId>& partitions);
  Status LookUpCommitted(std::vector<Facts>& facts);
  Result<Range> LookUpRange(PartitionId partition);
  Result<Offset> LookUpStart(PartitionId partition, const Range& range);
  Result<Offset> Announce(Facts facts);
  Result<Range> Confirm(Range range, PartitionId partition, std::optional<Offset> position);
  Result<Offset> OverGap(const Facts& facts, Offset position);

  Status OnMessage(const rd_kafka_message_t& message, RecordBatch& batch);
  Status OnError(const rd_kafka_message_t& message);
  Status Resume();
  Status Resume(PartitionId partition, Partition& state);
  void ReportPositions(RecordBatch& batch);
  void CatchUp();
  Status CommitPending();

  List MakeList() const { return List(rd_kafka_topic_partition_list_new(8), &rd_kafka_topic_partition_list_destroy); }
  rd_kafka_topic_partition_t* Add(const List& list, PartitionId partition) const {
    return rd_kafka_topic_partition_list_add(list.get(), options_.source_topic.c_str(), Raw(partition));
  }
  std::string Name(PartitionId partition) const {
    return options_.source_topic + "[" + std::to_string(Raw(partition)) + "]";
  }

  const KafkaOptions options_;
  int64_t start_time_ms_ = 0;  // where source.start is a time
  Health health_;
  kafka::Client client_;
  AssignmentListener* listener_ = nullptr;

  std::map<PartitionId, Partition> partitions_;  // announced
  std::vector<PartitionId> joining_;             // assigned by the group, not yet announced
  bool any_stalled_ = false;
  bool assignment_due_ = false;            // the group waits for our answer to `joining_`
  std::map<PartitionId, Offset> pending_;  // commits that the brokers have not taken yet
  RecordBatch* batch_ = nullptr;           // of the running Poll()
  Status failure_;                         // of a callback, for the running call
  steady_clock::time_point next_catch_up_;
};

KafkaSource::~KafkaSource() {
  if (client_ == nullptr) return;
  listener_ = nullptr;  // it may be gone; what was not committed comes again
  partitions_.clear();
  if (assignment_due_) (void)Assign(nullptr);
  rd_kafka_consumer_close(client_.get());
}

Status KafkaSource::Connect() {
  if (options_.start != "earliest" && options_.start != "latest") {
    const auto time_ms = ParseIso8601Ms(options_.start);
    if (!time_ms) {
      return Error(ErrorCode::kInvalidArgument,
                   "source.start: \"" + options_.start + "\": expected earliest, latest, or an ISO 8601 time");
    }
    start_time_ms_ = *time_ms;
  }
  const auto assignor = kafka::ChooseAssignor();
  const kafka::Properties defaults = {
      {"group.id", options_.application},      {"partition.assignment.strategy", assignor.strategy},
      {"isolation.level", "read_committed"},   {"enable.auto.commit", "false"},
      {"enable.auto.offset.store", "false"},   {"auto.offset.reset", "error"},
      {"enable.partition.eof", "true"},  // its offset lies behind control records, which are never delivered
      {"allow.auto.create.topics", "false"},   {"queued.min.messages", "50000"},
      {"queued.max.messages.kbytes", "16384"},
  };
  ASSIGN_OR_RETURN(
      client_, kafka::MakeClient(kafka::ClientKind::kConsumer, options_, defaults, health_,
                                 [](auto* conf) { rd_kafka_conf_set_rebalance_cb(conf, &KafkaSource::OnRebalance); }));
  rd_kafka_poll_set_consumer(client_.get());
  return {};
}

Status KafkaSource::Open(AssignmentListener& listener) {
  listener_ = &listener;
  const List topics = MakeList();
  rd_kafka_topic_partition_list_add(topics.get(), options_.source_topic.c_str(), RD_KAFKA_PARTITION_UA);
  const auto code = rd_kafka_subscribe(client_.get(), topics.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(options_.source_topic, code);
  return {};
}

Result<PollState> KafkaSource::Poll(RecordBatch& batch, size_t max_records, milliseconds wait) {
  batch_ = &batch;
  const size_t limit = batch.records.size() + max_records;
  auto timeout_ms = static_cast<int>(wait.count());
  while (batch.records.size() < limit) {
    RETURN_IF_ERROR(Join());
    RETURN_IF_ERROR(Resume());
    const Message message(rd_kafka_consumer_poll(client_.get(), timeout_ms), &rd_kafka_message_destroy);
    RETURN_IF_ERROR(std::exchange(failure_, Status()));
    RETURN_IF_ERROR(health_.status());
    if (message == nullptr) break;
    timeout_ms = 0;
    RETURN_IF_ERROR(OnMessage(*message, batch));
  }
  ReportPositions(batch);
  CatchUp();
  batch_ = nullptr;
  return PollState::kMore;
}

Status KafkaSource::OnMessage(const rd_kafka_message_t& message, RecordBatch& batch) {
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR && message.err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
    return OnError(message);
  const PartitionId id{message.partition};
  const auto found = partitions_.find(id);
  const Offset offset{message.offset};
  // Left over from before a rebalance or a seek.
  if (found == partitions_.end() || offset < found->second.next) return {};
  Partition& partition = found->second;
  if (message.err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
    partition.advanced |= partition.next != offset;
    partition.next = offset;
    return {};
  }
  batch.records.push_back({.topic = options_.source_topic,
                           .partition = id,
                           .offset = offset,
                           .key = Bytes(message.key, message.key_len, batch.arena),
                           .value = Bytes(message.payload, message.len, batch.arena),
                           .shown_partition = id,
                           .shown_offset = offset,
                           .header = {},
                           .damage = {}});
  partition.next = Next(offset);
  partition.advanced = true;
  return {};
}

Status KafkaSource::OnError(const rd_kafka_message_t& message) {
  switch (message.err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:  // our position is no longer in the log
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
      if (const auto found = partitions_.find(PartitionId{message.partition}); found != partitions_.end()) {
        found->second.stalled = any_stalled_ = true;
      }
      return {};
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED:
      spdlog::warn("kafka: {}: {}", options_.source_topic, rd_kafka_message_errstr(&message));
      return {};
    default:
      break;
  }
  if (kafka::IsTransient(message.err)) {
    health_.OnError(client_.get(), message.err, rd_kafka_message_errstr(&message));
    return health_.status();
  }
  return Error(ErrorCode::kIo, "kafka: " + options_.source_topic + ": " + rd_kafka_message_errstr(&message));
}

void KafkaSource::ReportPositions(RecordBatch& batch) {
  for (auto& [id, partition] : partitions_) {
    if (!std::exchange(partition.advanced, false)) continue;
    const auto same = [&](const PartitionPosition& position) { return position.partition == id; };
    const auto found = std::find_if(batch.positions.begin(), batch.positions.end(), same);
    if (found == batch.positions.end()) {
      batch.positions.push_back({id, partition.next});
    } else {
      found->next = partition.next;
    }
  }
}

// About once a second: looks for the end of an outage, which without records nothing else would notice, and tries
// commits again that failed.
void KafkaSource::CatchUp() {
  if ((!health_.down() && pending_.empty()) || steady_clock::now() < next_catch_up_) return;
  if (health_.down()) kafka::Probe(client_.get(), health_, 100);
  if (!health_.down()) (void)CommitPending();  // an error comes again with the next Commit()
  next_catch_up_ = steady_clock::now() + std::chrono::seconds(1);
}

void KafkaSource::Rebalance(rd_kafka_resp_err_t code, const rd_kafka_topic_partition_list_t& partitions) {
  if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    // Answered by Join(), which may have to ask the brokers more than once.
    assignment_due_ = true;
    for (int i = 0; i < partitions.cnt; ++i) joining_.push_back(PartitionId{partitions.elems[i].partition});
    rd_kafka_yield(client_.get());
    return;
  }
  const bool lost = rd_kafka_assignment_lost(client_.get()) != 0;
  for (int i = 0; i < partitions.cnt; ++i) Revoke(PartitionId{partitions.elems[i].partition}, lost);
  assignment_due_ = false;
  if (std::string_view(rd_kafka_rebalance_protocol(client_.get())) == "COOPERATIVE") {
    rd_kafka_error_destroy(rd_kafka_incremental_unassign(client_.get(), &partitions));
  } else {
    rd_kafka_assign(client_.get(), nullptr);
  }
}

void KafkaSource::Revoke(PartitionId partition, bool lost) {
  std::erase(joining_, partition);
  const auto found = partitions_.find(partition);
  if (found == partitions_.end()) return;
  Drop(partition);
  if (listener_ != nullptr) {
    const Status revoked = listener_->OnRevoked(partition, lost);
    if (!revoked.ok() && failure_.ok()) failure_ = revoked;
  }
  partitions_.erase(found);
  pending_.erase(partition);
}

// Takes what the running Poll() read of `partition` back: nobody has processed it yet.
void KafkaSource::Drop(PartitionId partition) {
  if (batch_ == nullptr) return;
  std::erase_if(batch_->records, [&](const RawRecord& record) { return record.partition == partition; });
  std::erase_if(batch_->positions, [&](const PartitionPosition& position) { return position.partition == partition; });
}

// Announces what the group assigned and begins to read it. Brokers that do not answer put it off to the next Poll().
Status KafkaSource::Join() {
  if (!assignment_due_) return {};
  const auto facts = LookUp(joining_);
  if (!facts.ok() && facts.error().retriable()) {
    spdlog::debug("{}; partitions are taken up later", facts.error().message());
    return {};
  }
  const List list = MakeList();
  Status failure = facts.ok() ? Status() : facts.error();
  for (size_t i = 0; failure.ok() && i < facts.value().size(); ++i) {
    const auto begin = Announce(facts.value()[i]);
    if (begin.ok()) {
      Add(list, facts.value()[i].partition)->offset = Raw(*begin);
    } else {
      failure = begin.error();
    }
  }
  joining_.clear();
  const Status assigned = Assign(list.get());  // also after a failure: the group waits for an answer
  return failure.ok() ? assigned : failure;
}

Status KafkaSource::Assign(const rd_kafka_topic_partition_list_t* partitions) {
  assignment_due_ = false;
  if (partitions != nullptr && std::string_view(rd_kafka_rebalance_protocol(client_.get())) == "COOPERATIVE") {
    const std::unique_ptr<rd_kafka_error_t, decltype(&rd_kafka_error_destroy)> error(
        rd_kafka_incremental_assign(client_.get(), partitions), &rd_kafka_error_destroy);
    if (error != nullptr)
      return Error(ErrorCode::kInternal, std::string("kafka: assign: ") + rd_kafka_error_string(error.get()));
    return {};
  }
  const auto code = rd_kafka_assign(client_.get(), partitions);
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? Status() : Status(kafka::MakeError("assign", code));
}

Result<std::vector<Facts>> KafkaSource::LookUp(const std::vector<PartitionId>& partitions) {
  std::vector<Facts> all;
  for (const PartitionId partition : partitions) {
    ASSIGN_OR_RETURN(const Range range, LookUpRange(partition));
    ASSIGN_OR_RETURN(const Offset start, LookUpStart(partition, range));
    all.push_back({partition, std::nullopt, range, start});
  }
  for (int answer = 0; answer < kAnswersToBelieve; ++answer) {
    if (answer > 0) std::this_thread::sleep_for(kBetweenAnswers);
    RETURN_IF_ERROR(LookUpCommitted(all));
    if (std::all_of(all.begin(), all.end(), [](const Facts& facts) { return facts.committed.has_value(); })) break;
  }
  return all;
}

Status KafkaSource::LookUpCommitted(std::vector<Facts>& all) {
  if (all.empty()) return {};
  const List list = MakeList();
  for (const Facts& facts : all) Add(list, facts.partition);
  const auto code = rd_kafka_committed(client_.get(), list.get(), kRequestMs);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError("committed offsets", code);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto& answer = list->elems[i];
    if (answer.err != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(Name(all[i].partition), answer.err);
    if (answer.offset >= 0) all[i].committed = Offset{answer.offset};
  }
  return {};
}

Result<Range> KafkaSource::LookUpRange(PartitionId partition) {
  int64_t low = 0;
  int64_t high = 0;
  const auto code = rd_kafka_query_watermark_offsets(client_.get(), options_.source_topic.c_str(), Raw(partition), &low,
                                                     &high, kRequestMs);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(Name(partition), code);
  return Range{Offset{low}, Offset{high}};
}

Result<Offset> KafkaSource::LookUpStart(PartitionId partition, const Range& range) {
  if (options_.start == "earliest") return range.begin;
  if (options_.start == "latest") return range.end;
  const List list = MakeList();
  Add(list, partition)->offset = start_time_ms_;
  const auto code = rd_kafka_offsets_for_times(client_.get(), list.get(), kRequestMs);
  const auto& answer = list->elems[0];
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(Name(partition), code);
  if (answer.err != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(Name(partition), answer.err);
  return answer.offset >= 0 ? Offset{answer.offset} : range.end;
}

// Tells the listener of a partition and answers where reading begins.
Result<Offset> KafkaSource::Announce(Facts facts) {
  ASSIGN_OR_RETURN(facts.range, Confirm(facts.range, facts.partition, facts.committed));
  if (facts.committed && *facts.committed > facts.range.end) {
    const std::string problem = Name(facts.partition) + ": input ends at offset " +
                                std::to_string(Raw(facts.range.end)) + ", the group's committed offset is " +
                                std::to_string(Raw(*facts.committed)) +
                                ": the topic was recreated, or the offset was reset from outside";
    if (options_.on_offset_gap == OffsetGapPolicy::kFail) {
      return Error(ErrorCode::kNeedsDecision, problem + ". Set source.on_offset_gap to rebuild or accept");
    }
    spdlog::warn("{}; it counts as not committed", problem);
    facts.committed.reset();
  }
  ASSIGN_OR_RETURN(const std::optional<Offset> position, listener_->OnAssigned({facts.partition, facts.committed}));
  Partition& partition = partitions_[facts.partition] = Partition{};
  Offset begin = position ? *position : StartOf(facts);
  if (position) {
    ASSIGN_OR_RETURN(facts.range, Confirm(facts.range, facts.partition, position));
  }
  // Without a state of its own the partition owes answers from the committed offset on.
  const Offset owed = position ? *position : facts.committed.value_or(facts.range.begin);
  if (!facts.range.Holds(owed)) {
    ASSIGN_OR_RETURN(begin, OverGap(facts, owed));
  }
  partition.next = begin;
  spdlog::info("kafka: {}: reading from offset {}, committed {}", Name(facts.partition), Raw(begin),
               facts.committed ? std::to_string(Raw(*facts.committed)) : "nothing");
  return begin;
}

// `range`, asked for again where `position` lies beyond its end, until that is believed.
Result<Range> KafkaSource::Confirm(Range range, PartitionId partition, std::optional<Offset> position) {
  for (int answer = 1; answer < kAnswersToBelieve && position && *position > range.end; ++answer) {
    std::this_thread::sleep_for(kBetweenAnswers);
    ASSIGN_OR_RETURN(range, LookUpRange(partition));
  }
  return range;
}

// Where reading goes on after records before `position` [exclusive] that the input does not hold: source.on_offset_gap.
Result<Offset> KafkaSource::OverGap(const Facts& facts, Offset position) {
  const bool gone = position < facts.range.begin;
  const int64_t events = Raw(facts.range.begin) - Raw(position);
  std::string problem = Name(facts.partition) + ": input " + (gone ? "begins" : "ends") + " at offset " +
                        std::to_string(Raw(gone ? facts.range.begin : facts.range.end)) + ", state is at " +
                        std::to_string(Raw(position)) + ": ";
  problem += gone ? Grouped(events) + (events == 1 ? " event is gone" : " events are gone")
                  : "the topic was recreated or truncated, and its offsets come again";
  const auto policy = options_.on_offset_gap;
  // State takes an offset below its own for a repeat: beyond the end it cannot go on, whatever is accepted.
  if (policy == OffsetGapPolicy::kFail || (policy == OffsetGapPolicy::kAccept && !gone)) {
    return Error(ErrorCode::kNeedsDecision,
                 problem + ". Set source.on_offset_gap to " + (gone ? "rebuild or accept" : "rebuild"));
  }
  if (policy == OffsetGapPolicy::kAccept) {
    spdlog::warn("{}; accepted", problem);
    return facts.range.begin;
  }
  spdlog::warn("{}; state is built anew from {}", problem, options_.start);
  RETURN_IF_ERROR(listener_->OnRebuild({facts.partition, facts.committed}));
  return StartOf(facts);
}

Status KafkaSource::Resume() {
  if (!any_stalled_) return {};
  any_stalled_ = false;
  for (auto& [id, partition] : partitions_) {
    if (!partition.stalled) continue;
    const Status resumed = Resume(id, partition);
    if (!resumed.ok() && !resumed.error().retriable()) return resumed;
    partition.stalled = !resumed.ok();
    any_stalled_ |= partition.stalled;
  }
  return {};
}

Status KafkaSource::Resume(PartitionId id, Partition& partition) {
  ASSIGN_OR_RETURN(Range range, LookUpRange(id));
  ASSIGN_OR_RETURN(range, Confirm(range, id, partition.next));
  ASSIGN_OR_RETURN(const Offset start, LookUpStart(id, range));
  Facts facts{id, std::nullopt, range, start};
  Offset next = partition.next;
  if (!range.Holds(next)) {
    // What was delivered is answered, as long as it is the same log.
    if (next < range.begin) facts.committed = next;
    ASSIGN_OR_RETURN(next, OverGap(facts, next));
    if (options_.on_offset_gap == OffsetGapPolicy::kRebuild) {
      Drop(id);
      pending_.erase(id);
    }
  }
  const List list = MakeList();
  Add(list, id)->offset = Raw(next);
  const std::unique_ptr<rd_kafka_error_t, decltype(&rd_kafka_error_destroy)> error(
      rd_kafka_seek_partitions(client_.get(), list.get(), kRequestMs), &rd_kafka_error_destroy);
  if (error != nullptr) return kafka::MakeError(Name(id), rd_kafka_error_code(error.get()));
  partition.next = next;
  return {};
}

Status KafkaSource::Commit(std::span<const PartitionPosition> positions) {
  for (const PartitionPosition& position : positions) {
    if (partitions_.count(position.partition) != 0) pending_[position.partition] = position.next;
  }
  return CommitPending();
}

// Commits what is pending. What the brokers do not take now stays pending: state is durable and knows its own position.
Status KafkaSource::CommitPending() {
  if (pending_.empty()) return {};
  const List list = MakeList();
  for (const auto& [partition, next] : pending_) Add(list, partition)->offset = Raw(next);
  auto code = rd_kafka_commit(client_.get(), list.get(), 0);
  for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) code = list->elems[i].err;
  switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
      health_.OnAnswer();
      pending_.clear();
      return {};
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
      // The group went on without us: the partitions are somebody else's, and the revocation is on its way.
      spdlog::info("kafka: {}: commit refused ({})", options_.source_topic, rd_kafka_err2name(code));
      pending_.clear();
      return {};
    default:
      break;
  }
  if (!kafka::IsTransient(code)) return kafka::MakeError(options_.source_topic + ": commit of offsets", code);
  spdlog::debug("kafka: {}: commit of offsets put off ({})", options_.source_topic, rd_kafka_err2name(code));
  return {};
}

Status KafkaSource::Close() {
  if (client_ == nullptr) return {};
  if (assignment_due_) {
    joining_.clear();
    (void)Assign(MakeList().get());
  }
  const auto code = rd_kafka_consumer_close(client_.get());  // revokes
  client_.reset();
  RETURN_IF_ERROR(std::exchange(failure_, Status()));
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? Status() : Status(kafka::MakeError("close", code));
}

std::vector<std::pair<PartitionId, int64_t>> KafkaSource::Lag() const {
  std::vector<std::pair<PartitionId, int64_t>> lag;
  for (const auto& [id, partition] : partitions_) {
    int64_t low = 0;
    int64_t high = 0;
    const auto code =
        rd_kafka_get_watermark_offsets(client_.get(), options_.source_topic.c_str(), Raw(id), &low, &high);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0)
      lag.emplace_back(id, std::max<int64_t>(0, high - Raw(partition.next)));
  }
  return lag;
}

}  // namespace

Result<std::unique_ptr<EventSource>> MakeKafkaSource(const KafkaOptions& options) {
  auto source = std::make_unique<KafkaSource>(options);
  RETURN_IF_ERROR(source->Connect());
  return std::unique_ptr<EventSource>(std::move(source));
}

}  // namespace freshet
