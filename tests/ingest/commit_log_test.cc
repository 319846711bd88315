#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ingest/log_files.h"
#include "tests/ingest/files_for_tests.h"

namespace freshet {
namespace {

class CommitLogTest : public testing::Test {
 protected:
  Result<std::unique_ptr<CommitLog>> Open(std::vector<std::filesystem::path> inputs) {
    return CommitLog::Open(folder_ / "commits", inputs);
  }

  TemporaryFolder folder_;
};

TEST_F(CommitLogTest, KeepsInputsPositionsAndLengths) {
  const auto a = folder_.Write("a", "a0\n");
  const auto b = folder_.Write("b", "b0\n");
  {
    const auto log = Open({b, a});
    ASSERT_TRUE(log.ok()) << log.error().message();
    EXPECT_EQ(log.value()->FileIndex(b), 0);
    EXPECT_EQ(log.value()->FileIndex(a), 1);
    EXPECT_EQ(log.value()->Committed(PartitionId{3}), std::nullopt);
    EXPECT_EQ(log.value()->OutputLength("/x"), std::nullopt);
    const std::vector<PartitionPosition> positions{{PartitionId{3}, LogOffset(1, 7)}, {PartitionId{0}, Offset{2}}};
    const std::vector<std::pair<std::string, int64_t>> lengths{{"/x", 100}};
    ASSERT_TRUE(log.value()->Commit(positions, lengths).ok());
    ASSERT_TRUE(log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, Offset{4}}}, {}).ok());
  }
  const auto c = folder_.Write("c", "c0\n");
  const auto log = Open({a, c, b});
  ASSERT_TRUE(log.ok()) << log.error().message();
  EXPECT_EQ(log.value()->FileIndex(b), 0);
  EXPECT_EQ(log.value()->FileIndex(a), 1);
  EXPECT_EQ(log.value()->FileIndex(c), 2);
  EXPECT_EQ(log.value()->Committed(PartitionId{3}), LogOffset(1, 7));
  EXPECT_EQ(log.value()->Committed(PartitionId{0}), Offset{4});
  EXPECT_EQ(log.value()->OutputLength("/x"), 100);
}

TEST_F(CommitLogTest, AChangedInputNeedsADecision) {
  const auto a = folder_.Write("a", "a0\n");
  ASSERT_TRUE(Open({a}).ok());
  folder_.Write("a", "a0\na1\n");
  const auto grown = Open({a});
  ASSERT_FALSE(grown.ok());
  EXPECT_EQ(grown.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_NE(grown.error().message().find("3 bytes then, 6 now"), std::string::npos) << grown.error().message();
  folder_.Write("a", "b0\n");
  const auto other = Open({a});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), ErrorCode::kNeedsDecision);
}

TEST_F(CommitLogTest, AnInputReadInPartMustNotBeLeftOut) {
  const auto a = folder_.Write("a", "a0\n");
  const auto b = folder_.Write("b", "b0\n");
  {
    const auto log = Open({a, b});
    const std::vector<PartitionPosition> half{{PartitionId{0}, LogOffset(2, 0)}, {PartitionId{1}, LogOffset(1, 1)}};
    ASSERT_TRUE(log.value()->Commit(half, {}).ok());
  }
  EXPECT_TRUE(Open({b}).ok()) << "a is done";
  const auto refused = Open({a});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_EQ(refused.error().message().rfind(b.string() + ": was read only in part", 0), 0u)
      << refused.error().message();
}

// Its index must not lie before that of a file which is read now: it would count as done and never be read.
TEST_F(CommitLogTest, AnInputThatWasNotReadAndIsLeftOutIsNewWhenItComesAgain) {
  const auto a = folder_.Write("a", "a0\na1\n");
  const auto b = folder_.Write("b", "b0\n");
  const auto c = folder_.Write("c", "c0\n");
  {
    const auto log = Open({a, b});
    ASSERT_TRUE(log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, LogOffset(0, 1)}}, {}).ok());
  }
  {
    const auto log = Open({a, c});
    ASSERT_TRUE(log.ok()) << log.error().message();
    EXPECT_EQ(log.value()->FileIndex(c), 1);
    ASSERT_TRUE(log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, LogOffset(2, 0)}}, {}).ok());
  }
  const auto log = Open({b});
  ASSERT_TRUE(log.ok()) << log.error().message();
  EXPECT_EQ(log.value()->FileIndex(b), 2);
}

// One partition is before it, another behind it: whoever leaves it out now would skip it for the first.
TEST_F(CommitLogTest, AnInputBetweenTwoPartitionsMustNotBeLeftOut) {
  const auto a = folder_.Write("a", "a0\n");
  const auto b = folder_.Write("b", "b0\n");
  const auto c = folder_.Write("c", "c0\n");
  {
    const auto log = Open({a, b, c});
    const std::vector<PartitionPosition> apart{{PartitionId{0}, LogOffset(2, 1)}, {PartitionId{1}, LogOffset(0, 1)}};
    ASSERT_TRUE(log.value()->Commit(apart, {}).ok());
  }
  const auto refused = Open({a, c});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNeedsDecision);
}

TEST_F(CommitLogTest, GoesOnFromThatOfASnapshot) {
  const auto a = folder_.Write("a", "a0\n");
  const auto b = folder_.Write("b", "b0\n");
  const auto c = folder_.Write("c", "c0\n");
  const auto answers = folder_.Write("answers", "12345678");
  {
    const auto log = CommitLog::Open(folder_ / "theirs", std::vector<std::filesystem::path>{a, b}).value();
    const std::vector<std::pair<std::string, int64_t>> lengths{
        {answers.string(), 8}, {"/gone", 8}, {folder_.Write("short", "1").string(), 8}};
    ASSERT_TRUE(log->Commit(std::vector<PartitionPosition>{{PartitionId{0}, LogOffset(1, 0)}}, lengths).ok());
  }
  for (int time = 0; time < 2; ++time) {  // the second finds the first's
    ASSERT_TRUE(CommitLog::Adopt(folder_ / "theirs", folder_ / "commits").ok());
    const auto log = Open({c});
    ASSERT_TRUE(log.ok()) << log.error().message();
    EXPECT_EQ(log.value()->FileIndex(c), 1) << "nothing was read of b, which may come later";
    EXPECT_EQ(log.value()->Committed(PartitionId{0}), LogOffset(1, 0));
    EXPECT_EQ(log.value()->OutputLength(answers.string()), 8);
    EXPECT_EQ(log.value()->OutputLength("/gone"), std::nullopt);
    EXPECT_EQ(log.value()->OutputLength((folder_ / "short").string()), std::nullopt);
    EXPECT_TRUE(log.value()->CheckNamed(std::vector{c}, LogOffset(1, 0)).ok());
    const Status behind = log.value()->CheckNamed(std::vector{c}, LogOffset(0, 1));
    ASSERT_FALSE(behind.ok());
    EXPECT_EQ(behind.error().code(), ErrorCode::kNeedsDecision);
  }
  std::filesystem::remove(folder_ / "commits");
  ASSERT_TRUE(Open({b, a}).ok());
  const Status mixed = CommitLog::Adopt(folder_ / "theirs", folder_ / "commits");
  ASSERT_FALSE(mixed.ok());
  EXPECT_EQ(mixed.error().code(), ErrorCode::kNeedsDecision);
  std::filesystem::remove(folder_ / "commits");
  EXPECT_TRUE(CommitLog::Adopt(folder_ / "none", folder_ / "commits").ok());
}

// Of two partitions one went ahead, the other had no commit yet when the run was killed.
TEST_F(CommitLogTest, AnInputThatAPartitionWithoutACommitNeedsMustNotBeLeftOut) {
  const auto a = folder_.Write("a", "a0\n");
  const auto b = folder_.Write("b", "b0\n");
  const std::vector<std::filesystem::path> both{a, b}, second{b};
  {
    const auto log = CommitLog::Open(folder_ / "commits", both, 2);
    EXPECT_EQ(log.value()->Committed(PartitionId{1}), Offset{0});
    ASSERT_TRUE(log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, LogOffset(2, 0)}}, {}).ok());
  }
  const auto refused = CommitLog::Open(folder_ / "commits", second, 2);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_TRUE(CommitLog::Open(folder_ / "commits", both, 2).ok());
}

TEST_F(CommitLogTest, TheSameInputTwiceIsRefused) {
  const auto a = folder_.Write("a", "a0\n");
  const auto log = Open({a, a.parent_path() / "." / "a"});
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(CommitLogTest, WhatIsNoCommitLogIsRefused) {
  for (const char* const text :
       {"", "{", "[]", R"({"format":"freshet commit log"})",
        R"({"format":"freshet commit log","version":2,"inputs":[],"positions":{},"outputs":{}})",
        R"({"format":"freshet commit log","version":1,"inputs":[{}],"positions":{},"outputs":{}})",
        R"({"format":"freshet commit log","version":1,"inputs":[],"positions":{"x":1},"outputs":{}})"}) {
    folder_.Write("commits", text);
    const auto log = Open({});
    ASSERT_FALSE(log.ok()) << text;
    EXPECT_EQ(log.error().code(), ErrorCode::kCorrupt) << log.error().message();
    EXPECT_EQ(TemporaryFolder::Read(folder_ / "commits"), text) << "it is left alone";
  }
}

TEST_F(CommitLogTest, AFailedWriteChangesNothing) {
  const auto log = Open({});
  ASSERT_TRUE(log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, Offset{4}}}, {}).ok());
  std::filesystem::create_directory(folder_ / "commits.new");  // where the new version would be written
  const Status status = log.value()->Commit(std::vector<PartitionPosition>{{PartitionId{0}, Offset{9}}}, {});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_EQ(log.value()->Committed(PartitionId{0}), Offset{4});
  std::filesystem::remove(folder_ / "commits.new");
  EXPECT_EQ(Open({}).value()->Committed(PartitionId{0}), Offset{4});
}

TEST_F(CommitLogTest, AFolderThatIsNotThereIsAnError) {
  const auto log = CommitLog::Open(folder_ / "missing" / "commits", {});
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.error().code(), ErrorCode::kIo);
}

}  // namespace
}  // namespace freshet
