#include "pipeline/snapshot_restore.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "core/fail_point.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kBatch = 1000;
constexpr auto kLogInterval = std::chrono::seconds(5);
constexpr auto kAnswer = std::chrono::seconds(5);

std::string Where(const RawRecord& record) {
  return std::string(record.topic) + "[" + std::to_string(Raw(record.partition)) + "] offset " +
         std::to_string(Raw(record.offset));
}

Result<std::string_view> PayloadOf(const RawRecord& record) {
  const Result<std::string_view> payload = DecodeSnapshot(record.key, record.value);
  if (payload.ok()) return payload;
  return payload.error()
      .At(Where(record))
      .At("state cannot be restored from a damaged snapshot; name another topic in snapshots.topic to build it from "
          "the input instead");
}

Result<Watermark> WatermarkOf(const RawRecord& record, std::string_view payload, const std::string& whose) {
  const Result<Watermark> watermark = DecodeWatermark(payload);
  if (!watermark.ok()) return watermark.error().At(Where(record));
  if (watermark->whose == whose) return watermark;
  return Error(ErrorCode::kInvalidArgument, "snapshots.topic: " + Where(record) + ": holds the snapshot of " +
                                                watermark->whose + ", expected that of " + whose +
                                                "; each application needs a snapshot topic of its own");
}

}  // namespace

// A snapshot is read from its beginning, whatever was read before.
class SnapshotRestore::Listener : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment&) override { return std::optional<Offset>(); }
  Status OnRevoked(PartitionId, bool) override { return {}; }
};

SnapshotRestore::SnapshotRestore(std::unique_ptr<EventSource> records, std::string name, std::string whose,
                                 bool in_topic, UserStateStore& store)
    : records_(std::move(records)),
      name_(std::move(name)),
      whose_(std::move(whose)),
      in_topic_(in_topic),
      store_(store),
      listener_(std::make_unique<Listener>()),
      began_(steady_clock::now()),
      next_log_(began_ + kLogInterval) {}

SnapshotRestore::~SnapshotRestore() = default;

// Until `take` returns false.
Status SnapshotRestore::ReadAll(EventSource& records, const std::function<Result<bool>(const RecordBatch&)>& take) {
  Listener listener;
  RETURN_IF_ERROR(records.Open(listener));
  for (auto until = steady_clock::now() + kAnswer; steady_clock::now() < until;) {
    RecordBatch batch;
    ASSIGN_OR_RETURN(const PollState state, records.Poll(batch, kBatch, milliseconds(100)));
    ASSIGN_OR_RETURN(const bool more, take(batch));
    if (!more || state == PollState::kEnd) return {};
    if (!batch.records.empty()) until = steady_clock::now() + kAnswer;
  }
  return Error(ErrorCode::kUnavailable, "the snapshot topic does not answer");
}

Result<bool> SnapshotRestore::IsEmpty(EventSource& records) {
  bool empty = true;
  RETURN_IF_ERROR(ReadAll(records, [&](const RecordBatch& batch) { return empty = batch.records.empty(); }));
  return empty;
}

Result<std::optional<Offset>> SnapshotRestore::FindWatermark(EventSource& records, const std::string& whose) {
  std::optional<Offset> position;
  RETURN_IF_ERROR(ReadAll(records, [&](const RecordBatch& batch) -> Result<bool> {
    for (const RawRecord& record : batch.records) {
      if (!IsWatermarkKey(record.key)) continue;
      ASSIGN_OR_RETURN(const std::string_view payload, PayloadOf(record));
      ASSIGN_OR_RETURN(const Watermark watermark, WatermarkOf(record, payload, whose));
      position = watermark.position;
    }
    return true;
  }));
  return position;
}

Result<bool> SnapshotRestore::Step(milliseconds budget) {
  const auto until = steady_clock::now() + budget;
  if (!std::exchange(open_, true)) RETURN_IF_ERROR(records_->Open(*listener_));
  do {
    batch_.Clear();
    ASSIGN_OR_RETURN(const PollState state, records_->Poll(batch_, kBatch, milliseconds(20)));
    RETURN_IF_ERROR(TakeIn(batch_));
    RETURN_IF_ERROR(FailPoint("during_restore"));
    LogProgress();
    if (state != PollState::kEnd) continue;
    RETURN_IF_ERROR(Finish());
    return true;
  } while (steady_clock::now() < until);
  return false;
}

Status SnapshotRestore::TakeIn(const RecordBatch& batch) {
  users_.clear();
  for (const RawRecord& record : batch.records) {
    ASSIGN_OR_RETURN(const std::string_view payload, PayloadOf(record));
    if (IsWatermarkKey(record.key)) {
      ASSIGN_OR_RETURN(watermark_, WatermarkOf(record, payload, whose_));
    } else if (const std::string_view user = UserOfSnapshotKey(record.key); !user.empty()) {
      users_.push_back({.id = user, .bytes = payload});
    }
  }
  restored_ += std::ssize(users_);
  return users_.empty() ? Status() : store_.Restore(users_);
}

Status SnapshotRestore::Finish() {
  RETURN_IF_ERROR(records_->Close());
  const std::chrono::duration<double> took = steady_clock::now() - began_;
  if (!watermark_) {
    spdlog::info("{}: {} records in the snapshot, but no watermark: everything is read from the input", name_,
                 restored_);
    return {};
  }
  store_.SetSnapshotPosition(in_topic_ ? watermark_->position : Offset{0});
  RETURN_IF_ERROR(store_.Apply(watermark_->position));
  spdlog::info("{}: restored {} records of a snapshot in {:.1f} s; the input is read from offset {}", name_, restored_,
               took.count(), Raw(watermark_->position));
  return {};
}

void SnapshotRestore::LogProgress() {
  const auto now = steady_clock::now();
  if (now < next_log_) return;
  next_log_ = now + kLogInterval;
  spdlog::info("{}: restoring, {:.0f} % of the snapshot, {} records", name_, 100 * records_->Progress().value_or(0),
               restored_);
}

}  // namespace freshet
