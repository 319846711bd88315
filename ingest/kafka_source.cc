#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_offset_commits.h"
#include "ingest/kafka_offset_gaps.h"
#include "ingest/kafka_partitions.h"
#include "ingest/kafka_sink.h"

namespace freshet {
namespace {

using kafka::AddPartition;
using kafka::Facts;
using kafka::Health;
using kafka::PartitionList;
using kafka::Patience;
using kafka::ToAssignment;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

class KafkaSource final : public EventSource, public kafka::GroupMember {
 public:
  // `transactional`: the sink commits the positions.
  KafkaSource(const KafkaOptions& options, bool transactional)
      : options_(options), transactional_(transactional), health_(std::in_place, Name(), this) {}
  ~KafkaSource() override;

  Status Connect();

  Status Open(AssignmentListener& listener) override;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, milliseconds wait) override;
  Status Commit(std::span<const PartitionPosition> positions) override;
  Status Rewind() override;
  Status Close() override;
  bool Joined() const override { return joined_ && joining_.empty(); }
  int64_t Rebalances() const override { return rebalances_; }
  kafka::GroupMetadata Metadata() const override;
  Offset Origin(PartitionId partition) const override;
  std::vector<std::pair<PartitionId, int64_t>> Lag() const override;

 private:
  struct Newcomer {
    Facts facts;
    Patience patience;
  };
  struct Partition {
    Offset next{};
    Offset origin{};
    bool advanced = false;  // in the running Poll()
    bool stalled = false;   // `next` is not in the log any more
  };

  static void OnRebalance(rd_kafka_t*, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* partitions,
                          void* health) {
    static_cast<KafkaSource*>(static_cast<Health*>(health)->owner())->Rebalance(code, *partitions);
  }
  void Rebalance(rd_kafka_resp_err_t code, const rd_kafka_topic_partition_list_t& partitions);
  void Revoke(const std::set<PartitionId>& partitions, bool lost);
  void Drop(PartitionId partition);
  Status Join();
  Status AnnounceWaiting();
  Status Assign(const PartitionList& partitions);
  Status AssignAlso(const std::vector<PartitionId>& partitions);
  Status Reassign(PartitionId partition);
  Status CheckPartitions();
  bool IsCooperative();
  void NoteLoss();
  Status Leave();
  std::string Name() const { return "consumer of " + options_.source_topic; }
  bool Fenced() const {
    return rd_kafka_fatal_error(client_.get(), nullptr, 0) == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
  }
  Status Rejoin();
  Result<PollState> PollRecords(RecordBatch& batch, size_t max_records, milliseconds wait);

  Status Announce(Facts facts);
  kafka::OffsetGaps Gaps() const { return {options_, *lookup_, *listener_}; }

  Status OnMessage(const rd_kafka_message_t& message, RecordBatch& batch);
  Status OnError(const rd_kafka_message_t& message);
  Status Resume();
  Status Resume(PartitionId partition, Partition& state);
  void ReportPositions(RecordBatch& batch);
  void ProbeAndRetryCommits();

  static constexpr auto kBetweenPartitionChecks = std::chrono::seconds(10);

  const KafkaOptions options_;
  const bool transactional_;
  std::optional<Health> health_;  // of the consumer at hand
  kafka::Client client_;
  std::optional<kafka::PartitionLookup> lookup_;
  std::optional<kafka::OffsetCommits> commits_;
  AssignmentListener* listener_ = nullptr;

  std::map<PartitionId, Partition> partitions_;  // announced
  std::vector<PartitionId> joining_;             // assigned by the group, not yet asked about
  std::map<PartitionId, Newcomer> waiting_;      // asked about, not yet taken up by the listener
  std::set<PartitionId> told_;                   // the listener has them, or is getting ready for them
  bool any_stalled_ = false;
  bool topic_gone_ = false;      // deleted while we read it
  bool lost_ = false;            // the partitions are others' by now; the revocation is on its way
  bool assignment_due_ = false;  // the group waits for our answer to `joining_`
  Patience joining_patience_;    // since then
  int64_t rebalances_ = 0;
  bool joined_ = false;           // it has our answer, and nothing was revoked since
  bool cooperative_ = false;      // as the group's protocol was when last asked
  RecordBatch* batch_ = nullptr;  // of the running Poll()
  kafka::Fences fences_;
  Status failure_;  // of a callback, for the running call
  kafka::Probe probe_;
  steady_clock::time_point next_partition_check_ = steady_clock::now() + kBetweenPartitionChecks;
};

KafkaSource::~KafkaSource() {
  if (client_ == nullptr) return;
  listener_ = nullptr;  // it may be gone; what was not committed comes again
  partitions_.clear();
  (void)Leave();
}

// Leaves the group, which revokes all partitions, and ends the client.
Status KafkaSource::Leave() {
  batch_ = nullptr;
  joining_.clear();
  if (assignment_due_) (void)Assign(kafka::MakePartitionList());
  const Status closed = kafka::CloseConsumer(client_.get());
  commits_.reset();
  kafka::Destroy(std::move(client_), topic_gone_);
  return closed;
}

Status KafkaSource::Connect() {
  ASSIGN_OR_RETURN(const kafka::Start start, kafka::ParseStart(options_.start));
  const auto assignor = kafka::ChooseAssignor();
  kafka::Properties defaults = kafka::ReadingDefaults(options_);
  defaults.emplace_back("partition.assignment.strategy", assignor.strategy);
  if (!options_.instance.empty()) defaults.emplace_back("group.instance.id", kafka::MemberName(options_));
  const auto prepare = [this](rd_kafka_conf_t* conf) {
    rd_kafka_conf_set_rebalance_cb(conf, &KafkaSource::OnRebalance);
    if (!options_.advertise.empty()) kafka::TellAddress(conf, options_.advertise);
  };
  ASSIGN_OR_RETURN(client_, kafka::MakeClient(kafka::ClientKind::kConsumer, options_, defaults, *health_, prepare));
  lookup_.emplace(client_.get(), options_.source_topic, start);
  commits_.emplace(client_.get(), options_.source_topic, *health_);
  rd_kafka_poll_set_consumer(client_.get());
  return {};
}

Status KafkaSource::Open(AssignmentListener& listener) {
  listener_ = &listener;
  const PartitionList topics = kafka::MakePartitionList();
  rd_kafka_topic_partition_list_add(topics.get(), options_.source_topic.c_str(), RD_KAFKA_PARTITION_UA);
  const auto code = rd_kafka_subscribe(client_.get(), topics.get());
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) return kafka::MakeError(options_.source_topic, code);
  return {};
}

Result<PollState> KafkaSource::Poll(RecordBatch& batch, size_t max_records, milliseconds wait) {
  auto polled = PollRecords(batch, max_records, wait);
  if (!polled.ok() && Fenced()) {
    RETURN_IF_ERROR(Rejoin());
    polled = PollState::kMore;
  }
  batch_ = nullptr;
  return polled;
}

// A fence may be this process's own work: a session that timed out during an outage keeps sending heartbeats, without a
// member's id, as long as its revocation waits for the next Poll() (seen with librdkafka 2.0.2). A new consumer goes
// on; two processes of one group.instance.id fence each other until one gives up.
Status KafkaSource::Rejoin() {
  health_->OnError(client_.get(), RD_KAFKA_RESP_ERR__FATAL, "");
  if (fences_.AnotherIsBelieved()) return health_->status();
  spdlog::warn("kafka: {}: fenced; joins the group again", Name());
  Revoke(std::set(told_), true);
  RETURN_IF_ERROR(std::exchange(failure_, Status()));
  partitions_.clear();
  waiting_.clear();
  AssignmentListener* const listener = std::exchange(listener_, nullptr);
  (void)Leave();  // what is fenced cannot
  health_.emplace(Name(), this);
  any_stalled_ = lost_ = assignment_due_ = joined_ = false;
  RETURN_IF_ERROR(Connect());
  return Open(*listener);
}

Result<PollState> KafkaSource::PollRecords(RecordBatch& batch, size_t max_records, milliseconds wait) {
  batch_ = &batch;
  const size_t limit = batch.records.size() + max_records;
  RETURN_IF_ERROR(Join());
  RETURN_IF_ERROR(AnnounceWaiting());
  // What the listener waits for should not wait for this.
  auto timeout_ms = static_cast<int>(waiting_.empty() ? wait.count() : std::min<int64_t>(wait.count(), 10));
  while (batch.records.size() < limit) {
    RETURN_IF_ERROR(Resume());
    const kafka::Message message(rd_kafka_consumer_poll(client_.get(), timeout_ms));
    RETURN_IF_ERROR(std::exchange(failure_, Status()));
    RETURN_IF_ERROR(health_->status());
    if (message == nullptr) break;
    timeout_ms = 0;
    RETURN_IF_ERROR(OnMessage(*message, batch));
  }
  ReportPositions(batch);
  ProbeAndRetryCommits();
  RETURN_IF_ERROR(CheckPartitions());
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
  kafka::AppendRecord(message, options_.source_topic, batch);
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
  return kafka::OnErrorMessage(client_.get(), *health_, options_.source_topic, message, topic_gone_);
}

void KafkaSource::ReportPositions(RecordBatch& batch) {
  for (auto& [id, partition] : partitions_) {
    if (!std::exchange(partition.advanced, false)) continue;
    const auto same = [id = id](const PartitionPosition& position) { return position.partition == id; };
    const auto found = std::find_if(batch.positions.begin(), batch.positions.end(), same);
    if (found == batch.positions.end()) {
      batch.positions.push_back({id, partition.next});
    } else {
      found->next = partition.next;
    }
  }
}

// About once a second; also tries commits again that failed.
void KafkaSource::ProbeAndRetryCommits() {
  if ((!health_->down() && commits_->empty()) || !probe_.Due()) return;
  kafka::Probe::Ask(client_.get(), *health_);
  if (!health_->down()) (void)commits_->Send();  // an error comes again with the next Commit()
}

// Producers send users elsewhere as soon as they hear of a new partition, and the group would take it up: neither may
// be answered from state that was built in another partition.
Status KafkaSource::CheckPartitions() {
  if (options_.source_partitions == 0 || health_->down() || steady_clock::now() < next_partition_check_) return {};
  next_partition_check_ = steady_clock::now() + kBetweenPartitionChecks;
  const auto found = kafka::PartitionsOf(client_.get(), options_.source_topic);
  if (!found.ok() || *found == 0 || *found == options_.source_partitions)
    return {};  // a topic that is gone: see OnError
  return OtherPartitions(options_.source_topic, options_.source_partitions, *found);
}

void KafkaSource::Rebalance(rd_kafka_resp_err_t code, const rd_kafka_topic_partition_list_t& partitions) {
  if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    // Answered by Join(), which may have to ask the brokers more than once.
    ++rebalances_;
    assignment_due_ = true;
    joining_patience_ = {};
    lost_ = false;
    for (int i = 0; i < partitions.cnt; ++i) joining_.push_back(PartitionId{partitions.elems[i].partition});
    const auto last = std::max_element(joining_.begin(), joining_.end());
    if (options_.source_partitions > 0 && last != joining_.end() && Raw(*last) >= options_.source_partitions) {
      failure_ = OtherPartitions(options_.source_topic, options_.source_partitions, Raw(*last) + 1);
    }
    rd_kafka_yield(client_.get());
    return;
  }
  NoteLoss();
  const bool lost = std::exchange(lost_, false);
  // Only what librdkafka was told to read: it refuses a list that holds anything else, and the group would wait.
  const PartitionList read = kafka::MakePartitionList();
  std::set<PartitionId> revoked;
  for (int i = 0; i < partitions.cnt; ++i) {
    const PartitionId id{partitions.elems[i].partition};
    if (partitions_.contains(id)) AddPartition(read, options_.source_topic, id);
    revoked.insert(id);
  }
  Revoke(revoked, lost);
  assignment_due_ = false;
  joined_ = false;
  if (IsCooperative()) {
    rd_kafka_error_destroy(rd_kafka_incremental_unassign(client_.get(), read.get()));
  } else {
    rd_kafka_assign(client_.get(), nullptr);
  }
}

void KafkaSource::Revoke(const std::set<PartitionId>& partitions, bool lost) {
  for (const PartitionId id : partitions) {
    std::erase(joining_, id);
    waiting_.erase(id);
    if (told_.erase(id) == 0) continue;
    Drop(id);
    if (listener_ == nullptr) continue;
    const Status revoked = listener_->OnRevoked(id, lost);  // which may commit
    if (!revoked.ok() && failure_.ok()) failure_ = revoked;
  }
  if (!lost) (void)commits_->Send(milliseconds(kafka::kRequestMs));  // whoever takes them over begins there
  for (const PartitionId id : partitions) {
    partitions_.erase(id);
    commits_->Forget(id);
  }
}

// Takes what the running Poll() read of `partition` back: nobody has processed it yet.
void KafkaSource::Drop(PartitionId partition) {
  if (batch_ == nullptr) return;
  std::erase_if(batch_->records, [&](const RawRecord& record) { return record.partition == partition; });
  std::erase_if(batch_->positions, [&](const PartitionPosition& position) { return position.partition == partition; });
}

// Takes up what the group assigned. Brokers that do not answer put it off to the next Poll().
Status KafkaSource::Join() {
  if (!assignment_due_) return {};
  const auto facts = lookup_->Ask(joining_);
  if (!facts.ok() && facts.error().retriable()) {
    joining_patience_.Tell(options_.source_topic + ": taking up partitions", facts.error().message());
    return {};
  }
  joining_.clear();
  if (facts.ok()) {
    for (const Facts& fact : facts.value()) waiting_[fact.partition] = {fact, {}};
  }
  const Status assigned = AssignAlso({});  // the group waits for an answer, whatever the listener is about to say
  joined_ = true;
  return facts.ok() ? assigned : facts.error();
}

// Announces partitions until the listener takes them up, and begins to read those.
Status KafkaSource::AnnounceWaiting() {
  if (waiting_.empty()) return {};
  std::vector<PartitionId> taken;
  Status failure;
  for (auto entry = waiting_.begin(); entry != waiting_.end() && failure.ok();) {
    auto& [id, newcomer] = *entry;
    const Status announced = Announce(newcomer.facts);
    if (announced.ok()) {
      taken.push_back(id);
      entry = waiting_.erase(entry);
      continue;
    }
    if (!announced.error().retriable()) failure = announced;
    newcomer.patience.Tell(lookup_->Name(id), announced.error().message());
    ++entry;
  }
  const Status assigned = taken.empty() ? Status() : AssignAlso(taken);
  return failure.ok() ? assigned : failure;
}

// Reads `partitions`, each from its position, besides those that are read already.
Status KafkaSource::AssignAlso(const std::vector<PartitionId>& partitions) {
  const PartitionList list = kafka::MakePartitionList();
  if (IsCooperative()) {
    for (const PartitionId id : partitions) {
      AddPartition(list, options_.source_topic, id)->offset = Raw(partitions_.at(id).next);
    }
  } else {
    for (const auto& [id, partition] : partitions_) {
      AddPartition(list, options_.source_topic, id)->offset = Raw(partition.next);
    }
  }
  return Assign(list);
}

// Reads `partitions`, each from its offset; with the eager protocol they replace all others.
Status KafkaSource::Assign(const PartitionList& partitions) {
  assignment_due_ = false;
  NoteLoss();
  auto code = RD_KAFKA_RESP_ERR_NO_ERROR;
  if (IsCooperative()) {
    rd_kafka_error_t* const error = rd_kafka_incremental_assign(client_.get(), partitions.get());
    code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
  } else {
    code = rd_kafka_assign(client_.get(), partitions.get());
  }
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? Status() : Status(kafka::MakeError("assign", code));
}

// A client that ends does not say any more (null), but still revokes as it did.
bool KafkaSource::IsCooperative() {
  if (const char* const protocol = rd_kafka_rebalance_protocol(client_.get())) {
    cooperative_ = std::string_view(protocol) == "COOPERATIVE";
  }
  return cooperative_;
}

// Tells the listener of a partition and finds where reading begins.
Status KafkaSource::Announce(Facts facts) {
  RETURN_IF_ERROR(Gaps().CheckCommitted(facts));
  const auto assigned = listener_->OnAssigned(ToAssignment(facts));
  if (assigned.ok() || assigned.error().retriable()) told_.insert(facts.partition);
  ASSIGN_OR_RETURN(const std::optional<Offset> position, assigned);
  ASSIGN_OR_RETURN(const kafka::OffsetGaps::Beginning begin, Gaps().Begin(facts, position));
  Partition& partition = partitions_[facts.partition] = Partition{};
  partition.next = begin.next;
  partition.origin = begin.origin;
  // A beginning that is not the state's own is a position like any other: committed, it holds for the next start too.
  partition.advanced = !position || *position != begin.next;
  spdlog::info("kafka: {}: reading from offset {}, committed {}", lookup_->Name(facts.partition), Raw(begin.next),
               facts.committed ? std::to_string(Raw(*facts.committed)) : "nothing");
  return {};
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
  ASSIGN_OR_RETURN(const kafka::OffsetGaps::Continued continued, Gaps().Continue(id, partition.next));
  if (continued.rebuilt) {
    Drop(id);
    commits_->Forget(id);
  }
  if (continued.next != partition.next) partition.origin = continued.next;  // decided: not asked about again
  partition.next = continued.next;
  return Reassign(id);
}

// Reads `id` on at its position. (After an offset that was out of range librdkafka refuses to seek.)
Status KafkaSource::Reassign(PartitionId id) {
  const PartitionList list = kafka::MakePartitionList();
  const bool cooperative = IsCooperative();
  for (const auto& [other, partition] : partitions_) {
    if (other == id || !cooperative) AddPartition(list, options_.source_topic, other)->offset = Raw(partition.next);
  }
  if (cooperative) rd_kafka_error_destroy(rd_kafka_incremental_unassign(client_.get(), list.get()));
  return Assign(list);
}

// As a rebalance that takes all partitions and gives them back.
Status KafkaSource::Rewind() {
  if (IsCooperative()) {
    NoteLoss();
    const PartitionList list = kafka::MakePartitionList();
    for (const auto& [id, partition] : partitions_) AddPartition(list, options_.source_topic, id);
    rd_kafka_error_destroy(rd_kafka_incremental_unassign(client_.get(), list.get()));
  }
  commits_->Clear();
  // Those that wait have nothing that could come to nothing.
  for (const auto& [id, partition] : std::exchange(partitions_, {})) {
    joining_.push_back(id);
    told_.erase(id);
    RETURN_IF_ERROR(listener_->OnRevoked(id, true));
  }
  if (!assignment_due_) joining_patience_ = {};
  assignment_due_ |= !joining_.empty();
  return {};
}

// librdkafka forgets a loss with the next assignment that it is told of.
void KafkaSource::NoteLoss() { lost_ |= rd_kafka_assignment_lost(client_.get()) != 0; }

kafka::GroupMetadata KafkaSource::Metadata() const {
  if (lost_ || rd_kafka_assignment_lost(client_.get()) != 0) return nullptr;
  return kafka::GroupMetadata(rd_kafka_consumer_group_metadata(client_.get()));
}

Offset KafkaSource::Origin(PartitionId partition) const {
  const auto found = partitions_.find(partition);
  return found == partitions_.end() ? Offset{} : found->second.origin;
}

Status KafkaSource::Commit(std::span<const PartitionPosition> positions) {
  if (transactional_) return {};
  for (const PartitionPosition& position : positions) {
    const auto found = partitions_.find(position.partition);
    if (found != partitions_.end()) commits_->Add(position.partition, position.next, found->second.origin);
  }
  return commits_->Send();
}

Status KafkaSource::Close() {
  if (client_ == nullptr) return {};
  const Status left = Leave();
  RETURN_IF_ERROR(std::exchange(failure_, Status()));
  return left;
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

void kafka::GroupMetadataDeleter::operator()(rd_kafka_consumer_group_metadata_s* metadata) const {
  rd_kafka_consumer_group_metadata_destroy(metadata);
}

Result<std::unique_ptr<EventSource>> MakeKafkaSource(const KafkaOptions& options) {
  auto source = std::make_unique<KafkaSource>(options, false);
  RETURN_IF_ERROR(source->Connect());
  return std::unique_ptr<EventSource>(std::move(source));
}

Result<KafkaEnds> MakeTransactionalKafkaEnds(const KafkaOptions& options) {
  auto source = std::make_unique<KafkaSource>(options, true);
  RETURN_IF_ERROR(source->Connect());
  ASSIGN_OR_RETURN(std::unique_ptr<RecordSink> sink, kafka::MakeTransactionalSink(options, *source));
  return KafkaEnds{std::move(source), std::move(sink)};
}

}  // namespace freshet
