#include "pipeline/snapshot_restore.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/fail_point.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kBatch = 1000;
constexpr milliseconds kWait{20};
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
class SnapshotReader::Listener : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment&) override { return std::optional<Offset>(); }
  Status OnRevoked(PartitionId, bool) override { return {}; }
};

SnapshotReader::SnapshotReader(std::unique_ptr<EventSource> records, std::string doing)
    : records_(std::move(records)),
      doing_(std::move(doing)),
      listener_(std::make_unique<Listener>()),
      next_log_(steady_clock::now() + kLogInterval) {}

SnapshotReader::~SnapshotReader() = default;

Result<bool> SnapshotReader::Step(milliseconds budget, const std::function<Status(const RecordBatch&)>& take) {
  const auto until = steady_clock::now() + budget;
  if (!std::exchange(open_, true)) RETURN_IF_ERROR(records_->Open(*listener_));
  do {
    batch_.Clear();
    ASSIGN_OR_RETURN(const PollState state, records_->Poll(batch_, kBatch, std::min(budget, kWait)));
    RETURN_IF_ERROR(take(batch_));
    read_ += std::ssize(batch_.records);
    RETURN_IF_ERROR(FailPoint("during_restore"));
    LogProgress();
    if (state != PollState::kEnd) continue;
    RETURN_IF_ERROR(records_->Close());
    return true;
  } while (steady_clock::now() < until);
  return false;
}

void SnapshotReader::LogProgress() {
  const auto now = steady_clock::now();
  if (now < next_log_) return;
  next_log_ = now + kLogInterval;
  spdlog::info("{}, {:.0f} % of the snapshot, {} records", doing_, 100 * Progress(), read_);
}

WatermarkSearch::WatermarkSearch(std::unique_ptr<EventSource> records, const std::string& name, std::string whose)
    : reader_(std::move(records), name + ": looking how new the snapshot is"), whose_(std::move(whose)) {}

Result<bool> WatermarkSearch::Step(milliseconds budget) {
  return reader_.Step(budget, [this](const RecordBatch& batch) -> Status {
    for (const RawRecord& record : batch.records) {
      if (!IsWatermarkKey(record.key)) continue;
      ASSIGN_OR_RETURN(const std::string_view payload, PayloadOf(record));
      ASSIGN_OR_RETURN(const Watermark watermark, WatermarkOf(record, payload, whose_));
      position_ = watermark.position;
    }
    return {};
  });
}

SnapshotRestore::SnapshotRestore(std::unique_ptr<EventSource> records, const std::string& name, std::string whose,
                                 bool in_topic, UserStateStore& store)
    : reader_(std::move(records), name + ": restoring"),
      name_(name),
      whose_(std::move(whose)),
      in_topic_(in_topic),
      store_(store),
      began_(steady_clock::now()) {}

Result<bool> SnapshotRestore::IsEmpty(std::unique_ptr<EventSource> records) {
  SnapshotReader reader(std::move(records), "");
  bool empty = true;
  const auto take = [&](const RecordBatch& batch) { return empty = empty && batch.records.empty(), Status(); };
  for (const auto until = steady_clock::now() + kAnswer; steady_clock::now() < until;) {
    ASSIGN_OR_RETURN(const bool end, reader.Step(kWait, take));
    if (end || !empty) return empty;
  }
  return Error(ErrorCode::kUnavailable, "the snapshot topic does not answer");
}

Result<bool> SnapshotRestore::Step(milliseconds budget) {
  ASSIGN_OR_RETURN(const bool end, reader_.Step(budget, [this](const RecordBatch& batch) { return TakeIn(batch); }));
  if (end) RETURN_IF_ERROR(Finish());
  return end;
}

Status SnapshotRestore::TakeIn(const RecordBatch& batch) {
  users_.clear();
  for (const RawRecord& record : batch.records) {
    const std::string_view user = UserOfSnapshotKey(record.key);
    if (record.IsTombstone() && !user.empty()) {
      users_.push_back({.id = user, .bytes = {}});
      continue;
    }
    ASSIGN_OR_RETURN(const std::string_view payload, PayloadOf(record));
    if (IsWatermarkKey(record.key)) {
      ASSIGN_OR_RETURN(watermark_, WatermarkOf(record, payload, whose_));
    } else if (!user.empty()) {
      users_.push_back({.id = user, .bytes = payload});
    }
  }
  restored_ += std::ssize(users_);
  return users_.empty() ? Status() : store_.Restore(users_);
}

Status SnapshotRestore::Finish() {
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

}  // namespace freshet
