// Pipelines that start from snapshot files.
#include <gmock/gmock.h>

#include "pipeline/snapshot_file.h"
#include "state/snapshot.h"
#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

class SnapshotStartTest : public PipelineTest {
 protected:
  void SetUp() override {
    MemoryTopic topic = all_;
    Processor oracle(temporary_.path() / "oracle", serving_, topic, expected_);
    oracle.Run();
    ASSERT_TRUE(oracle.pipeline->Close().ok());
    digest_ = DigestOf(*oracle.states);
  }

  // Of the state in `directory` as it is.
  SnapshotFiles Snapshot(const std::string& directory) {
    StateOptions options;
    options.directory = temporary_.path() / directory;
    options.read_only = true;
    const auto states = StateDirectory::Open(options).value();
    const auto path = temporary_.path() / (directory + ".snapshot");
    const auto snapshot = NewSnapshot::Begin(path, kOwner).value();
    for (const PartitionId id : states->Partitions().value()) {
      EXPECT_TRUE(snapshot->Add(id, *states->OpenPartition(id).value(), [](int64_t) { return Status(); }).ok());
    }
    EXPECT_TRUE(snapshot->Finish().ok());
    return SnapshotFiles::Find(path, kOwner).value();
  }

  static PipelineOptions From(const SnapshotFiles& files) {
    PipelineOptions options;
    options.snapshots.whose = kOwner.whose;
    options.snapshots.file = [files](PartitionId partition) { return files.Read(partition); };
    options.snapshots.slice = std::chrono::hours(1);
    return options;
  }

  // The first records of each partition, into the state `directory`.
  MemoryTopic RunBeginning(const std::string& directory, MemorySink& sink) {
    MemoryTopic topic = all_;
    for (auto& records : topic.partitions) {
      behind_ += std::ssize(records) - std::ssize(records) / 2;
      records.resize(records.size() / 2);
    }
    Processor processor(temporary_.path() / directory, serving_, topic, sink);
    processor.Run();
    EXPECT_TRUE(processor.pipeline->Close().ok());
    topic.partitions = all_.partitions;
    return topic;
  }

  static inline const SnapshotOwner kOwner{.whose = "freshet, clicks", .partitions = 2};
  const MemoryTopic all_ = RandomTopic(600, TestSeed() + 11);
  MemorySink expected_;
  std::string digest_;
  int64_t behind_ = 0;  // records behind the beginning
};

TEST_F(SnapshotStartTest, GoesOnAsTheStateItCameFrom) {
  MemorySink sink;
  MemoryTopic topic = RunBeginning("first", sink);
  Processor second(temporary_.path() / "second", serving_, topic, sink, From(Snapshot("first")));
  second.Run();
  EXPECT_EQ(second.pipeline->counts().events, behind_);
  ASSERT_TRUE(second.pipeline->Close().ok());
  ExpectSameAnswers(sink, expected_);
  EXPECT_EQ(DigestOf(*second.states), digest_);
}

// What was answered after the snapshot was taken is not answered again; without a committed position all of it is.
TEST_F(SnapshotStartTest, AnOlderSnapshotIsBroughtUpToWhatIsCommitted) {
  MemorySink sink;
  MemoryTopic topic = RunBeginning("first", sink);
  const SnapshotFiles files = Snapshot("first");
  MemoryTopic more = topic;
  for (auto& records : more.partitions) records.resize(records.size() * 3 / 4);
  Processor on(temporary_.path() / "first", serving_, more, sink);
  on.Run();
  const int64_t after_snapshot = on.pipeline->counts().events;
  ASSERT_TRUE(on.pipeline->Close().ok());
  topic.committed = more.committed;
  Processor second(temporary_.path() / "second", serving_, topic, sink, From(files));
  second.Run();
  EXPECT_EQ(second.pipeline->counts().silent, after_snapshot);
  ASSERT_TRUE(second.pipeline->Close().ok());
  ExpectSameAnswers(sink, expected_);
  EXPECT_EQ(DigestOf(*second.states), digest_);

  topic.committed.clear();
  MemorySink again;
  Processor third(temporary_.path() / "third", serving_, topic, again, From(files));
  third.Run();
  EXPECT_EQ(third.pipeline->counts().silent, 0);
  EXPECT_EQ(std::ssize(Answers(again)), behind_);
}

TEST_F(SnapshotStartTest, LocalStateComesFirst) {
  MemorySink sink;
  MemoryTopic topic = RunBeginning("first", sink);
  const SnapshotFiles files = Snapshot("first");
  PipelineOptions options = From(files);
  int asked = 0;
  options.snapshots.file = [&](PartitionId partition) { return ++asked, files.Read(partition); };
  Processor again(temporary_.path() / "first", serving_, topic, sink, options);
  again.Run();
  ASSERT_TRUE(again.pipeline->Close().ok());
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(DigestOf(*again.states), digest_);
}

// A restore that broke off leaves users without a position: were they kept, their events would count as repeats.
TEST_F(SnapshotStartTest, WhatABrokenRestoreLeftDoesNotCount) {
  MemorySink sink;
  MemoryTopic topic = RunBeginning("first", sink);
  const SnapshotFiles files = Snapshot("first");
  StateOptions state;
  state.directory = temporary_.path() / "second";
  state.history = serving_.model->config.exact_history();
  {
    const auto states = StateDirectory::Open(state).value();
    const auto store = states->OpenPartition(PartitionId{0}).value();
    RecordBatch batch;
    ASSERT_TRUE(files.Read(PartitionId{0}).value()->Poll(batch, 2, {}).ok());
    for (const RawRecord& record : batch.records) {
      const StoredUser user{.id = UserOfSnapshotKey(record.key),
                            .bytes = DecodeSnapshot(record.key, record.value).value()};
      ASSERT_TRUE(store->Restore({&user, 1}).ok());
    }
  }
  topic.committed.clear();
  MemorySink all;
  Processor second(temporary_.path() / "second", serving_, topic, all);
  second.Run();
  ASSERT_TRUE(second.pipeline->Close().ok());
  ExpectSameAnswers(all, expected_);
  EXPECT_EQ(DigestOf(*second.states), digest_);
}

}  // namespace
}  // namespace freshet
