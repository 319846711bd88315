#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "ingest/log_files.h"
#include "tests/ingest/files_for_tests.h"

namespace freshet {
namespace {

class FileSink : public testing::Test {
 protected:
  FileSink() : log_(CommitLog::Open(folder_ / "commits", {}).value()) {}

  Result<std::shared_ptr<OutputFile>> OpenOutput(const std::string& name) {
    return OpenOutputFile((folder_ / name).string(), *log_);
  }
  std::unique_ptr<RecordSink> Make(const std::string& name) {
    return MakeFileSink(OpenOutput(name).value(), OpenOutputFile("", *log_).value(), *log_);
  }
  // A program that starts again.
  void Restart() { log_ = CommitLog::Open(folder_ / "commits", {}).value(); }

  static Status Write(RecordSink& sink, const std::string& value, Offset next) {
    const OutputRecord record{Stream::kRecommendations, "k", value, {}};
    const Status published = sink.Publish({&record, 1});
    if (!published.ok()) return published;
    return sink.Commit(std::vector<PartitionPosition>{{PartitionId{0}, next}});
  }
  std::string Content(const std::string& name) const { return TemporaryFolder::Read(folder_ / name); }

  TemporaryFolder folder_;
  std::unique_ptr<CommitLog> log_;
};

TEST_F(FileSink, GoesOnAtTheCommittedLength) {
  ASSERT_TRUE(Write(*Make("out"), "one", Offset{1}).ok());
  std::ofstream(folder_ / "out", std::ios::app) << "half a rec";  // written, then a crash before the commit log
  Restart();
  EXPECT_EQ(log_->Committed(PartitionId{0}), Offset{1});
  ASSERT_TRUE(Write(*Make("out"), "two", Offset{2}).ok());
  EXPECT_EQ(Content("out"), "one\ntwo\n");
}

TEST_F(FileSink, AnOutputThatIsNotKnownIsEmptied) {
  folder_.Write("out", "from another run\n");
  ASSERT_TRUE(Write(*Make("out"), "one", Offset{1}).ok());
  EXPECT_EQ(Content("out"), "one\n");
}

TEST_F(FileSink, WhatACommitLogThatWentOnDoesNotKnowNeedsADecision) {
  ASSERT_TRUE(Write(*Make("out"), "one", Offset{1}).ok());
  folder_.Write("other", "from another run\n");
  const auto refused = OpenOutput("other");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_THAT(refused.error().message(), testing::HasSubstr("other: holds 17 bytes that the commit log"));
  EXPECT_EQ(Content("other"), "from another run\n");
  // One that is new is known from then on, so that what a crash leaves there is cut off.
  ASSERT_TRUE(OpenOutput("new").ok());
  folder_.Write("new", "half a rec");
  Restart();
  ASSERT_TRUE(Write(*Make("new"), "two", Offset{2}).ok());
  EXPECT_EQ(Content("new"), "two\n");
}

TEST_F(FileSink, APipeIsWaitedForWhileAsked) {
  const std::string pipe = (folder_ / "pipe").string();
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(OpenOutput("pipe").error().message(), testing::HasSubstr("pipe: nobody reads this pipe"));
  int asked = 0;
  const auto cancelled = OpenOutputFile(pipe, *log_, false, [&] { return ++asked < 3; });
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(asked, 3);
  std::string read;
  std::thread reader;
  const auto begin_reading = [&] {
    if (!reader.joinable()) reader = std::thread([&] { read = TemporaryFolder::Read(pipe); });
    return true;
  };
  auto output = OpenOutputFile(pipe, *log_, false, begin_reading);
  ASSERT_TRUE(output.ok());
  // More than a pipe holds: it waits for its reader.
  const std::string value(1 << 20, 'x');
  EXPECT_TRUE(
      Write(*MakeFileSink(std::move(*output), OpenOutputFile("", *log_).value(), *log_), value, Offset{1}).ok());
  reader.join();
  EXPECT_EQ(read, value + "\n");
}

TEST_F(FileSink, AnOutputShorterThanWhatIsCommittedNeedsADecision) {
  ASSERT_TRUE(Write(*Make("out"), "one", Offset{1}).ok());
  std::filesystem::resize_file(folder_ / "out", 2);
  Restart();
  const auto output = OpenOutput("out");
  ASSERT_FALSE(output.ok());
  EXPECT_EQ(output.error().code(), ErrorCode::kNeedsDecision);
  EXPECT_NE(output.error().message().find("has 2 bytes, but 4 were committed"), std::string::npos);
  std::filesystem::remove(folder_ / "out");
  EXPECT_FALSE(OpenOutput("out").ok()) << "a missing file is a shorter one";
}

TEST_F(FileSink, AnOutputHasOneWriter) {
  const auto sink = Make("out");
  const auto other = OpenOutput("out");
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), ErrorCode::kIo);
  EXPECT_NE(other.error().message().find((folder_ / "out").string() + ": is being written"), std::string::npos);
}

TEST_F(FileSink, AFullDiskNamesTheFileAndCutsItBack) {
  auto sink = Make("out");
  ASSERT_TRUE(Write(*sink, "one", Offset{1}).ok());
  // A limit on the size of files stands for the full disk: the write is partial and then fails.
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  rlimit limit = old_limit;
  limit.rlim_cur = 4096;
  setrlimit(RLIMIT_FSIZE, &limit);
  const Status status = Write(*sink, std::string(10000, 'x'), Offset{2});
  setrlimit(RLIMIT_FSIZE, &old_limit);
  signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_NE(status.error().message().find((folder_ / "out").string() + ": cannot write "), std::string::npos);
  EXPECT_NE(status.error().message().find("File too large"), std::string::npos) << status.error().message();
  EXPECT_EQ(Content("out"), "one\n");
  sink.reset();  // with its hold on the file
  Restart();
  EXPECT_EQ(log_->Committed(PartitionId{0}), Offset{1});
  ASSERT_TRUE(Write(*Make("out"), "two", Offset{2}).ok());
  EXPECT_EQ(Content("out"), "one\ntwo\n");
}

TEST_F(FileSink, ADeviceWithoutRoom) {
  const auto sink = MakeFileSink(OpenOutputFile("/dev/full", *log_).value(), OpenOutputFile("", *log_).value(), *log_);
  const Status status = Write(*sink, "one", Offset{1});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message(), "/dev/full: cannot write 4 bytes at 0: No space left on device");
  EXPECT_EQ(log_->Committed(PartitionId{0}), std::nullopt);
}

TEST_F(FileSink, ACommitLogThatCannotBeWrittenCutsTheOutputBack) {
  const auto sink = Make("out");
  ASSERT_TRUE(Write(*sink, "one", Offset{1}).ok());
  std::filesystem::create_directory(folder_ / "commits.new");
  EXPECT_FALSE(Write(*sink, "two", Offset{2}).ok());
  EXPECT_EQ(Content("out"), "one\n");
}

TEST_F(FileSink, NowhereStillCommitsPositions) {
  const auto sink = MakeFileSink(OpenOutputFile("", *log_).value(), OpenOutputFile("", *log_).value(), *log_);
  ASSERT_TRUE(Write(*sink, "one", Offset{5}).ok());
  EXPECT_EQ(log_->Committed(PartitionId{0}), Offset{5});
}

TEST_F(FileSink, AnOutputInAFolderThatIsNotThere) {
  const auto output = OpenOutput("missing/out");
  ASSERT_FALSE(output.ok());
  EXPECT_EQ(output.error().message(),
            (folder_ / "missing/out").string() + ": cannot open for writing: No such file or directory");
}

TEST_F(FileSink, ANameThatPromisesAnotherCompressionIsRefused) {
  const auto output = OpenOutput("out.jsonl.bz2");
  ASSERT_FALSE(output.ok());
  EXPECT_EQ(output.error().message(), (folder_ / "out.jsonl.bz2").string() +
                                          ": cannot write .bz2, expected a name that ends in .gz, .zst or neither");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.jsonl.bz2"));
}

TEST_F(FileSink, SeveralWorkersAppendToOneFile) {
  const auto answers = OpenOutput("out").value();
  const auto letters = OpenOutput("dead").value();
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&, worker] {
      const auto sink = MakeFileSink(answers, letters, *log_);
      for (int i = 1; i <= 50; ++i) {
        const std::string value(static_cast<size_t>(worker * 500 + i), static_cast<char>('a' + worker));
        const OutputRecord records[] = {{Stream::kRecommendations, "k", value, {}},
                                        {Stream::kDeadLetters, "k", value, {}}};
        EXPECT_TRUE(sink->Publish(records).ok());
        EXPECT_TRUE(sink->Commit(std::vector<PartitionPosition>{{PartitionId{worker}, Offset{i}}}).ok());
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  std::map<char, std::vector<size_t>> lengths;
  std::istringstream lines(Content("out"));
  for (std::string line; std::getline(lines, line);) {
    ASSERT_EQ(line.find_first_not_of(line[0]), std::string::npos) << "lines of two workers are mixed";
    lengths[line[0]].push_back(line.size());
  }
  ASSERT_EQ(lengths.size(), 4u);
  for (const auto& [worker, sizes] : lengths) {
    EXPECT_EQ(sizes.size(), 50u);
    EXPECT_TRUE(std::is_sorted(sizes.begin(), sizes.end()));
  }
  EXPECT_EQ(log_->OutputLength((folder_ / "out").string()), static_cast<int64_t>(Content("out").size()));
  for (int worker = 0; worker < 4; ++worker) EXPECT_EQ(log_->Committed(PartitionId{worker}), Offset{50});
}

}  // namespace
}  // namespace freshet
