#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "ingest/log_files.h"
#include "tests/ingest/files_for_tests.h"

namespace freshet {
namespace {

class Listener : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment& assignment) override {
    assigned.push_back(assignment.partition);
    const auto position = positions.find(assignment.partition);
    return position == positions.end() ? std::optional<Offset>() : position->second;
  }
  Status OnRevoked(PartitionId, bool) override { return {}; }

  std::map<PartitionId, Offset> positions;
  std::vector<PartitionId> assigned;
};

struct Read {
  std::vector<std::string> values;
  std::vector<Offset> offsets;
  std::vector<std::string> damages;
  std::map<PartitionId, Offset> positions;
  RecordBatch last;
  std::optional<Error> error;
};

class LogFileSource : public testing::Test {
 protected:
  std::unique_ptr<EventSource> Make(LogFileOptions options) {
    auto log = CommitLog::Open("", options.paths);
    EXPECT_TRUE(log.ok()) << (log.ok() ? "" : log.error().message());
    log_ = std::move(log).value();
    return MakeLogFileSource(std::move(options), *log_);
  }

  Read ReadAll(LogFileOptions options, size_t batch_size = 1000) {
    const auto source = Make(std::move(options));
    Read read;
    const Status opened = source->Open(listener_);
    if (!opened.ok()) {
      read.error = opened.error();
      return read;
    }
    for (PollState state = PollState::kMore; state == PollState::kMore;) {
      read.last.Clear();
      auto polled = source->Poll(read.last, batch_size, std::chrono::milliseconds(0));
      if (!polled.ok()) {
        read.error = polled.error();
        return read;
      }
      state = *polled;
      for (const RawRecord& record : read.last.records) {
        EXPECT_EQ(record.partition, kPartitionOfUser);
        EXPECT_EQ(Raw(record.shown_offset), OrdinalOf(record.offset));
        read.values.emplace_back(record.value);
        read.offsets.push_back(record.offset);
        read.damages.emplace_back(record.damage);
      }
      for (const auto& [partition, next] : read.last.positions) {
        EXPECT_GT(next, read.positions[partition]) << "positions only advance";
        read.positions[partition] = next;
      }
    }
    EXPECT_DOUBLE_EQ(source->Progress().value_or(-1), 1.0);
    return read;
  }
  Read ReadFiles(std::vector<std::filesystem::path> paths) {
    LogFileOptions options;
    options.paths = std::move(paths);
    options.partitions = 2;
    return ReadAll(options);
  }

  TemporaryFolder folder_;
  Listener listener_;
  std::unique_ptr<CommitLog> log_;
};

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(LogFileSource, LinesOfSeveralFilesAndForms) {
  const auto read = ReadFiles({folder_.Write("a.jsonl", "a0\na1\n"), folder_.Write("b", GzipBytes("b0\nb1")),
                               folder_.Write("c.txt", ZstdBytes("c0\n")), folder_.Write("d", "d0")});
  EXPECT_THAT(read.values, ElementsAre("a0", "a1", "b0", "b1", "c0", "d0"));
  EXPECT_THAT(read.offsets, ElementsAre(LogOffset(0, 0), LogOffset(0, 1), LogOffset(1, 0), LogOffset(1, 1),
                                        LogOffset(2, 0), LogOffset(3, 0)));
  EXPECT_EQ(read.positions.at(PartitionId{0}), LogOffset(4, 0));
  EXPECT_EQ(read.positions.at(PartitionId{1}), LogOffset(4, 0));
  EXPECT_EQ(read.last.records.back().topic, "d");
}

TEST_F(LogFileSource, GzipMembersAndZstdFramesFollowEachOther) {
  const auto read = ReadFiles({folder_.Write("a.gz", GzipBytes("a0\na") + GzipBytes("") + GzipBytes("1\n")),
                               folder_.Write("b.zst", ZstdBytes("b0\nb") + ZstdBytes("") + ZstdBytes("1\n"))});
  EXPECT_THAT(read.values, ElementsAre("a0", "a1", "b0", "b1"));
  EXPECT_THAT(read.damages, testing::Each(""));
}

TEST_F(LogFileSource, EmptyFilesEmptyLinesCarriageReturnsAndByteOrderMarks) {
  const auto read = ReadFiles({folder_.Write("empty", ""),
                               folder_.Write("a",
                                             "\xEF\xBB\xBF"
                                             "a0\r\n\r\n\n a1 \n\n"),
                               folder_.Write("newlines", "\n\n\n"), folder_.Write("gz", GzipBytes("")),
                               folder_.Write("mark", "\xEF\xBB\xBF")});
  EXPECT_THAT(read.values, ElementsAre("a0", " a1 "));
  EXPECT_THAT(read.offsets, ElementsAre(LogOffset(1, 0), LogOffset(1, 1)));
  EXPECT_EQ(read.positions.at(PartitionId{0}), LogOffset(5, 0));
}

TEST_F(LogFileSource, HeaderLinesComeWithEachRecord) {
  LogFileOptions options;
  options.paths = {folder_.Write("a.csv", "\xEF\xBB\xBFuser,item\r\n1,2\r\n"),
                   folder_.Write("b.csv", "item,user\n3,4\n"), folder_.Write("c.csv", "only,header\n"),
                   folder_.Write("d.csv", "")};
  options.has_header = true;
  const auto read = ReadAll(options);
  EXPECT_THAT(read.values, ElementsAre("1,2", "3,4"));
  EXPECT_THAT(read.offsets, ElementsAre(LogOffset(0, 0), LogOffset(1, 0)));
  ASSERT_EQ(read.last.records.size(), 2u);
  EXPECT_EQ(read.last.records[0].header, "user,item");
  EXPECT_EQ(read.last.records[1].header, "item,user");
}

TEST_F(LogFileSource, AHeaderWithoutANeededColumnIsAnErrorAtOpen) {
  LogFileOptions options;
  const auto bad = folder_.Write("b.csv", "user_id,article\n1,2\n");
  options.paths = {folder_.Write("a.csv", "user_id,item_id,timestamp\n"), bad};
  options.has_header = true;
  DecoderOptions decoding;
  decoding.format = RecordFormat::kCsv;
  const auto decoder = MakeDecoder(decoding);
  options.check_header = [&](std::string_view header) { return (*decoder)->CheckHeader(header); };
  const auto read = ReadAll(options);
  ASSERT_TRUE(read.error.has_value());
  EXPECT_EQ(read.error->code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(read.error->message(),
            bad.string() + ": source.mapping.item_id: no column \"item_id\"; the columns are user_id, article");
}

TEST_F(LogFileSource, ADamagedFileEndsWithOneDamagedRecordAndTheNextIsRead) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) lines += R"({"n":)" + std::to_string(i) + "}\n";
  for (const bool gzip : {true, false}) {
    const std::string whole = gzip ? GzipBytes(lines) : ZstdBytes(lines);
    std::string flipped = whole;
    for (size_t i = whole.size() / 2; i < whole.size() / 2 + 40; ++i) flipped[i] = static_cast<char>(~flipped[i]);
    for (const std::string& bytes :
         {whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 1), flipped, whole + "garbage behind it"}) {
      const auto broken = folder_.Write("broken", bytes);
      const auto read = ReadFiles({broken, folder_.Write("next", "n0\nn1\n")});
      ASSERT_FALSE(read.error.has_value()) << read.error->message();
      ASSERT_GE(read.values.size(), 3u);
      const size_t damaged = read.values.size() - 3;
      for (size_t i = 0; i < damaged && bytes != flipped; ++i) {
        ASSERT_EQ(read.values[i], R"({"n":)" + std::to_string(i) + "}");
      }
      EXPECT_EQ(read.damages[damaged].rfind(broken.string() + ": byte ", 0), 0u) << read.damages[damaged];
      EXPECT_EQ(std::count(read.damages.begin(), read.damages.end(), ""), static_cast<std::ptrdiff_t>(damaged + 2));
      EXPECT_EQ(read.values.back(), "n1");
      EXPECT_EQ(read.offsets.back(), LogOffset(1, 1));
    }
  }
}

TEST_F(LogFileSource, AFileDamagedInItsHeaderLineGivesOneRecord) {
  LogFileOptions options;
  options.paths = {folder_.Write("a.csv.gz", GzipBytes("user_id,item_id,timestamp\n1,2,3\n").substr(0, 15)),
                   folder_.Write("b.csv", "user_id,item_id,timestamp\n1,2,3\n")};
  options.has_header = true;
  const auto read = ReadAll(options);
  ASSERT_EQ(read.values.size(), 2u);
  EXPECT_FALSE(read.damages[0].empty());
  EXPECT_EQ(read.values[1], "1,2,3");
}

TEST_F(LogFileSource, OfALongLineOnlyTheBeginningIsKept) {
  LogFileOptions options;
  const std::string longest(3 << 20, 'x');
  for (const bool zstd : {false, true}) {
    for (const std::string last : {"", "\n", "\nafter\n"}) {
      const std::string bytes = "a\n" + longest + "\n" + std::string(1000, 'y') + "\nb\n" + longest + last;
      options.paths = {folder_.Write("long", zstd ? ZstdBytes(bytes) : bytes)};
      options.keep_record_bytes = 1000;
      const auto read = ReadAll(options);
      ASSERT_EQ(read.values.size(), last == "\nafter\n" ? 6u : 5u);
      EXPECT_EQ(read.values[0], "a");
      EXPECT_EQ(read.values[1], longest.substr(0, 1000));
      EXPECT_EQ(read.last.records[1].oversize_bytes, 3 << 20);
      EXPECT_EQ(read.values[2], std::string(1000, 'y'));
      EXPECT_EQ(read.last.records[2].oversize_bytes, 0);
      EXPECT_EQ(read.values[3], "b");
      EXPECT_EQ(read.values[4], longest.substr(0, 1000));
      EXPECT_EQ(read.last.records[4].oversize_bytes, 3 << 20);
      if (read.values.size() == 6) {
        EXPECT_EQ(read.values[5], "after");
      }
    }
  }
}

TEST_F(LogFileSource, ALineOfTenMebibytesIsWhole) {
  const std::string line(10 << 20, 'x');
  const auto read = ReadFiles({folder_.Write("a", "a\n" + line + "\nb\n")});
  ASSERT_EQ(read.values.size(), 3u);
  EXPECT_EQ(read.values[1], line);
  EXPECT_EQ(read.values[2], "b");
}

TEST_F(LogFileSource, ABatchOfHugeRecordsEndsEarly) {
  const std::string line(12 << 20, 'x');
  LogFileOptions options;
  options.paths = {folder_.Write("a", line + "\n" + line + "\n" + line + "\n" + line + "\n")};
  const auto source = Make(options);
  ASSERT_TRUE(source->Open(listener_).ok());
  RecordBatch batch;
  EXPECT_EQ(*source->Poll(batch, 100, std::chrono::milliseconds(0)), PollState::kMore);
  EXPECT_EQ(batch.records.size(), 3u);
}

TEST_F(LogFileSource, PathsThatCannotBeReadAreErrorsAtTheStart) {
  const std::vector<std::filesystem::path> missing{folder_ / "missing.jsonl"};
  const auto log = CommitLog::Open("", missing);
  ASSERT_FALSE(log.ok());
  EXPECT_EQ(log.error().message(), missing[0].string() + ": cannot open: No such file or directory");
  std::filesystem::create_directory(folder_ / "folder");
  const std::vector<std::filesystem::path> directory{folder_ / "folder"};
  ASSERT_FALSE(CommitLog::Open("", directory).ok());
  EXPECT_NE(CommitLog::Open("", directory).error().message().find("is a directory"), std::string::npos);
  const auto gone = folder_.Write("gone", "a\n");
  LogFileOptions options;
  options.paths = {gone};
  const auto source = Make(options);
  std::filesystem::remove(gone);
  const Status opened = source->Open(listener_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kIo);
}

TEST_F(LogFileSource, OtherCompressionsAreNamed) {
  const std::pair<std::string, std::string> others[] = {
      {"BZh91AY&SY", "bzip2"}, {"\xfd\x37zXZ", "xz"}, {"PK\x03\x04\x14", "zip"}, {"\x04\x22\x4d\x18", "lz4"}};
  for (const auto& [bytes, name] : others) {
    LogFileOptions options;
    options.paths = {folder_.Write("log", bytes)};
    const Status opened = Make(options)->Open(listener_);
    ASSERT_FALSE(opened.ok()) << name;
    EXPECT_EQ(opened.error().message(),
              options.paths[0].string() + ": is compressed with " + name + ", expected plain, gzip or zstd");
  }
}

TEST_F(LogFileSource, WorkersOwnTheirPartitions) {
  LogFileOptions options;
  options.paths = {folder_.Write("a", "a0\n")};
  options.partitions = 5;
  options.workers = 2;
  options.worker = 1;
  const auto read = ReadAll(options);
  EXPECT_THAT(listener_.assigned, ElementsAre(PartitionId{1}, PartitionId{3}));
  EXPECT_EQ(read.positions.size(), 2u);
}

TEST_F(LogFileSource, AWorkerWithoutPartitionsIsDone) {
  LogFileOptions options;
  options.paths = {folder_.Write("a", "a0\n")};
  options.partitions = 1;
  options.workers = 2;
  options.worker = 1;
  EXPECT_THAT(ReadAll(options).values, IsEmpty());
}

TEST_F(LogFileSource, ReadingBeginsAtTheSmallestPosition) {
  LogFileOptions options;
  options.paths = {folder_.Write("a", "a0\na1\n"), folder_.Write("b", "b0\n\nb1\nb2\nb3\n"),
                   folder_.Write("c", "c0\n")};
  options.partitions = 2;
  listener_.positions = {{PartitionId{0}, LogOffset(1, 1)}, {PartitionId{1}, LogOffset(1, 3)}};
  const auto source = Make(options);
  ASSERT_TRUE(source->Open(listener_).ok());
  RecordBatch batch;
  ASSERT_TRUE(source->Poll(batch, 1, std::chrono::milliseconds(0)).ok());
  ASSERT_EQ(batch.records.size(), 1u);
  EXPECT_EQ(batch.records[0].value, "b1");
  EXPECT_THAT(batch.positions, ElementsAre(PartitionPosition{PartitionId{0}, LogOffset(1, 2)}))
      << "the other partition is ahead and stays where it is";
  batch.Clear();
  EXPECT_EQ(*source->Poll(batch, 10, std::chrono::milliseconds(0)), PollState::kEnd);
  EXPECT_EQ(batch.records.size(), 3u);
  EXPECT_THAT(batch.positions, ElementsAre(PartitionPosition{PartitionId{0}, LogOffset(3, 0)},
                                           PartitionPosition{PartitionId{1}, LogOffset(3, 0)}));
}

// A loss of power may take the commit log's end and leave that of the state.
TEST_F(LogFileSource, StateAheadOfTheCommitLogNeedsADecision) {
  LogFileOptions options;
  options.paths = {folder_.Write("a", "a0\na1\na2\n")};
  options.partitions = 1;
  const std::filesystem::path path = folder_ / "commits.json";
  log_ = CommitLog::Open(path, options.paths, 1).value();
  ASSERT_TRUE(log_->Commit(std::vector<PartitionPosition>{{PartitionId{0}, Offset{1}}}, {}).ok());
  RecordBatch batch;
  for (const int64_t position : {0, 1, 2}) {
    listener_.positions = {{PartitionId{0}, Offset{position}}};
    const auto source = MakeLogFileSource(options, *log_);
    ASSERT_TRUE(source->Open(listener_).ok());
    const auto polled = source->Poll(batch, 10, std::chrono::milliseconds(0));
    ASSERT_EQ(polled.ok(), position <= 1) << position;
    if (polled.ok()) continue;
    EXPECT_EQ(polled.error().code(), ErrorCode::kNeedsDecision);
    EXPECT_THAT(
        polled.error().message(),
        testing::AllOf(testing::StartsWith(path.string() + ": partition 0 is committed up to 1, its state is at 2"),
                       testing::HasSubstr("another state.directory")));
  }
}

TEST_F(LogFileSource, RestartAtEveryRecordGoesOnExactly) {
  LogFileOptions options;
  options.paths = {folder_.Write("a", GzipBytes("a0\n\na1\n")), folder_.Write("e", ""),
                   folder_.Write("b", "b0\nb1\nb2"), folder_.Write("c", ZstdBytes("c0\n"))};
  options.partitions = 1;
  const std::vector<std::string> all = ReadAll(options).values;
  ASSERT_EQ(all.size(), 6u);
  for (size_t before = 0; before <= all.size(); ++before) {
    listener_.positions.clear();
    const auto source = Make(options);
    ASSERT_TRUE(source->Open(listener_).ok());
    RecordBatch batch;
    ASSERT_TRUE(source->Poll(batch, before, std::chrono::milliseconds(0)).ok());
    for (const PartitionPosition& position : batch.positions) listener_.positions[position.partition] = position.next;
    EXPECT_EQ(ReadAll(options).values,
              std::vector<std::string>(all.begin() + static_cast<std::ptrdiff_t>(before), all.end()));
  }
}

TEST(PartitionOfUser, SpreadsAndStays) {
  std::vector<int> counts(8);
  for (int user = 0; user < 8000; ++user) ++counts[static_cast<size_t>(Raw(PartitionOfUser(std::to_string(user), 8)))];
  EXPECT_THAT(counts, testing::Each(testing::AllOf(testing::Gt(850), testing::Lt(1150))));
  EXPECT_EQ(PartitionOfUser("u1", 8), PartitionOfUser("u1", 8));
  EXPECT_EQ(PartitionOfBadRecord(LogOffset(3, 13), 8), PartitionId{5});
}

}  // namespace
}  // namespace freshet
