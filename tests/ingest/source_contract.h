// What every EventSource keeps (ingest/event_source.h). A kind of source runs the suite by a factory:
//   INSTANTIATE_TEST_SUITE_P(Files, SourceContract, testing::Values(SourceKind{"files", [] { return ...; }}));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ingest/event_source.h"

namespace freshet {

// An input and the sources that read it. It outlives its sources.
class SourceFixture {
 public:
  virtual ~SourceFixture() = default;

  // Appends records to the input. Called before the first source is made. Where a kind spreads records itself (log
  // files), `partition` is ignored.
  virtual void Write(int partition, const std::vector<std::string>& values) = 0;
  // A new source, as a restarted program has it: it sees what earlier ones committed.
  virtual std::unique_ptr<EventSource> Make() = 0;
  // Commits `positions` of `source` the way a program does, whatever part of that is the sink's.
  virtual Status Commit(EventSource& source, const std::vector<PartitionPosition>& positions) {
    return source.Commit(positions);
  }
  // Whether the input ends (PollState::kEnd).
  virtual bool ends() const { return true; }
  // What a partition is announced with before anything was committed.
  virtual std::optional<Offset> committed_at_first() const { return std::nullopt; }
};

struct SourceKind {
  std::string name;
  std::function<std::unique_ptr<SourceFixture>()> make;
};

inline void PrintTo(const SourceKind& kind, std::ostream* out) { *out << kind.name; }

// Answers assignments from a map, and notes what it was told.
class RecordingListener : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override {
    committed[assignment.partition] = assignment.committed;
    const auto position = positions.find(assignment.partition);
    return position == positions.end() ? std::optional<Offset>() : position->second;
  }
  Status OnRevoked(PartitionId partition, bool lost) override {
    revoked[partition] = lost;
    return {};
  }

  std::map<PartitionId, Offset> positions;                 // the store's own
  std::map<PartitionId, std::optional<Offset>> committed;  // by announced partition
  std::map<PartitionId, bool> revoked;                     // by partition: whether it was lost
};

class SourceContract : public testing::TestWithParam<SourceKind> {
 protected:
  struct Seen {
    PartitionId partition;
    Offset offset;
    std::string value;
  };

  void SetUp() override { fixture_ = GetParam().make(); }

  // Polls until `count` records came, or to the input's end; collects records and newest positions.
  std::vector<Seen> Drain(EventSource& source, size_t count, size_t batch_size = 3) {
    std::vector<Seen> seen;
    RecordBatch batch;
    for (int idle = 0; seen.size() < count && idle < 200;) {
      batch.Clear();
      const auto state = source.Poll(batch, std::min(batch_size, count - seen.size()), std::chrono::milliseconds(100));
      EXPECT_TRUE(state.ok()) << (state.ok() ? "" : state.error().message());
      if (!state.ok()) break;
      EXPECT_LE(batch.records.size(), batch_size);
      for (const RawRecord& record : batch.records) {
        seen.push_back({record.partition, record.offset, std::string(record.value)});
      }
      for (const PartitionPosition& position : batch.positions) positions_[position.partition] = position.next;
      if (*state == PollState::kEnd) break;
      idle = batch.records.empty() ? idle + 1 : 0;
    }
    return seen;
  }

  std::vector<PartitionPosition> Positions() const {
    std::vector<PartitionPosition> positions;
    for (const auto& [partition, next] : positions_) positions.push_back({partition, next});
    return positions;
  }

  static std::vector<std::string> Numbered(const std::string& name, int count) {
    std::vector<std::string> values;
    for (int i = 0; i < count; ++i) values.push_back(name + std::to_string(i));
    return values;
  }

  static std::vector<std::string> Values(const std::vector<Seen>& seen) {
    std::vector<std::string> values;
    for (const Seen& record : seen) values.push_back(record.value);
    return values;
  }

  std::unique_ptr<SourceFixture> fixture_;
  RecordingListener listener_;
  std::map<PartitionId, Offset> positions_;  // newest of each partition
};

TEST_P(SourceContract, DeliversEveryRecordOnceAndInOrderWithinItsPartition) {
  fixture_->Write(0, Numbered("a", 20));
  fixture_->Write(1, Numbered("b", 10));
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(listener_).ok());
  const auto seen = Drain(*source, 30);
  std::vector<std::string> expected = Numbered("a", 20);
  for (std::string& value : Numbered("b", 10)) expected.push_back(value);
  EXPECT_THAT(Values(seen), testing::UnorderedElementsAreArray(expected));
  std::map<PartitionId, Offset> last;
  std::map<char, int> next;  // by first letter: the number that comes next
  for (const Seen& record : seen) {
    if (last.contains(record.partition)) {
      EXPECT_GT(record.offset, last[record.partition]);
    }
    last[record.partition] = record.offset;
    EXPECT_EQ(record.value.substr(1), std::to_string(next[record.value[0]]++));
  }
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, PositionsLieBehindWhatWasDelivered) {
  fixture_->Write(0, Numbered("a", 10));
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(listener_).ok());
  const auto seen = Drain(*source, 4, 2);
  ASSERT_EQ(seen.size(), 4u);
  ASSERT_FALSE(positions_.empty());
  for (const auto& [partition, next] : positions_) {
    EXPECT_TRUE(listener_.committed.contains(partition)) << "position of a partition that was never announced";
    for (const Seen& record : seen) {
      if (record.partition == partition || record.partition == kPartitionOfUser) {
        EXPECT_GE(next, Next(record.offset));
      }
    }
  }
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, AnnouncesPartitionsWithWhatIsCommitted) {
  fixture_->Write(0, Numbered("a", 10));
  {
    const auto source = fixture_->Make();
    ASSERT_TRUE(source->Open(listener_).ok());
    ASSERT_EQ(Drain(*source, 6, 2).size(), 6u);
    for (const auto& [partition, committed] : listener_.committed) EXPECT_EQ(committed, fixture_->committed_at_first());
    const Status status = fixture_->Commit(*source, Positions());
    ASSERT_TRUE(status.ok()) << status.error().message();
    ASSERT_TRUE(source->Close().ok());
  }
  RecordingListener restarted;
  const auto committed_positions = positions_;
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(restarted).ok());
  Drain(*source, 1);
  for (const auto& [partition, next] : committed_positions) {
    if (Raw(next) > 0) {
      EXPECT_EQ(restarted.committed.at(partition), std::optional(next));
    }
  }
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, GoesOnAtTheStoresPosition) {
  fixture_->Write(0, Numbered("a", 10));
  {
    const auto source = fixture_->Make();
    ASSERT_TRUE(source->Open(listener_).ok());
    ASSERT_EQ(Drain(*source, 6, 2).size(), 6u);
    ASSERT_TRUE(source->Close().ok());
  }
  RecordingListener restarted;
  restarted.positions = positions_;
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(restarted).ok());
  EXPECT_THAT(Values(Drain(*source, 4)), testing::ElementsAre("a6", "a7", "a8", "a9"));
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, TheStoresPositionWinsOverTheCommittedOne) {
  fixture_->Write(0, Numbered("a", 10));
  const std::map<PartitionId, Offset> behind = [&] {
    const auto source = fixture_->Make();
    EXPECT_TRUE(source->Open(listener_).ok());
    EXPECT_EQ(Drain(*source, 2, 2).size(), 2u);
    const auto at_two = positions_;
    EXPECT_EQ(Drain(*source, 4, 2).size(), 4u);
    EXPECT_TRUE(fixture_->Commit(*source, Positions()).ok());
    EXPECT_TRUE(source->Close().ok());
    return at_two;
  }();
  RecordingListener restarted;
  restarted.positions = behind;
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(restarted).ok());
  const auto seen = Drain(*source, 8);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front().value, "a2");
  EXPECT_EQ(seen.size(), 8u);
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, NothingToReadIsAnEmptyBatch) {
  fixture_->Write(0, {});
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(listener_).ok());
  RecordBatch batch;
  for (int i = 0; i < 3; ++i) {
    const auto state = source->Poll(batch, 10, std::chrono::milliseconds(10));
    ASSERT_TRUE(state.ok()) << state.error().message();
    EXPECT_TRUE(batch.records.empty());
    EXPECT_EQ(*state == PollState::kEnd, fixture_->ends());
  }
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, TheEndStaysTheEnd) {
  fixture_->Write(0, Numbered("a", 5));
  const auto source = fixture_->Make();
  if (!fixture_->ends()) return;  // an input without an end has none to keep
  ASSERT_TRUE(source->Open(listener_).ok());
  EXPECT_EQ(Drain(*source, 100).size(), 5u);
  RecordBatch batch;
  const auto state = source->Poll(batch, 10, std::chrono::milliseconds(0));
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(*state, PollState::kEnd);
  EXPECT_TRUE(batch.records.empty());
  EXPECT_TRUE(source->Close().ok());
}

TEST_P(SourceContract, CloseGivesUpEveryPartition) {
  fixture_->Write(0, Numbered("a", 3));
  const auto source = fixture_->Make();
  ASSERT_TRUE(source->Open(listener_).ok());
  ASSERT_EQ(Drain(*source, 3).size(), 3u);
  ASSERT_TRUE(source->Close().ok());
  ASSERT_FALSE(listener_.committed.empty());
  for (const auto& [partition, committed] : listener_.committed) {
    ASSERT_TRUE(listener_.revoked.contains(partition)) << Raw(partition);
    EXPECT_FALSE(listener_.revoked.at(partition)) << "given up, not lost";
  }
}

}  // namespace freshet
