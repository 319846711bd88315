#include "pipeline/snapshot_file.h"

#include <gmock/gmock.h>

#include <fstream>

#include "ingest/byte_stream.h"
#include "pipeline/snapshot_restore.h"
#include "tests/pipeline/snapshot_test_support.h"

namespace freshet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

const SnapshotOwner kOwner{.whose = "application a, topic t", .partitions = 4};
constexpr PartitionId kPartition{3};

Status Ignore(int64_t) { return {}; }

class SnapshotFileTest : public testing::Test {
 protected:
  void Write(const LoggedStore& logged, const SnapshotOwner& owner = kOwner) {
    fs::remove_all(directory_);
    const auto snapshot = NewSnapshot::Begin(directory_, owner);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().message();
    const Result<int64_t> users = (*snapshot)->Add(kPartition, *logged.store, Ignore);
    ASSERT_TRUE(users.ok()) << users.error().message();
    EXPECT_EQ(*users, std::ssize(Contents(*logged.store)));
    EXPECT_FALSE(fs::exists(directory_)) << "before it is whole";
    ASSERT_TRUE((*snapshot)->Finish().ok());
  }
  std::string Content() const {
    const auto bytes = ByteStream::Open(file_).value();
    std::string content(1 << 20, '\0');
    size_t size = 0;
    while (const size_t count = bytes->Read(content.data() + size, content.size() - size).value()) size += count;
    return content.substr(0, size);
  }
  void Put(std::string_view content) const { std::ofstream(file_, std::ios::binary) << content; }
  // Why it is not taken.
  Error Refused(const SnapshotOwner& owner = kOwner) const {
    const Result<SnapshotFiles> files = SnapshotFiles::Find(directory_, owner);
    return files.ok() ? Error(ErrorCode::kInternal, "not refused") : files.error();
  }

  TemporaryDirectory temporary_;
  const fs::path directory_ = temporary_.path() / "new" / "snapshot";
  const fs::path file_ = directory_ / "partition-00003.snapshot.zst";
};

LoggedStore SomeUsers(int users) {
  LoggedStore logged;
  for (int n = 0; n < 3 * users; ++n) logged.Add("u" + std::to_string(n % users));
  logged.Apply();
  return logged;
}

TEST_F(SnapshotFileTest, AStoreComesBackAsItWas) {
  for (const int users : {0, 1, 2500}) {
    LoggedStore logged = SomeUsers(users);
    Write(logged);
    const SnapshotFiles files = SnapshotFiles::Find(directory_, kOwner).value();
    EXPECT_EQ(files.Read(PartitionId{2}).value(), nullptr);
    LoggedStore other;
    SnapshotRestore restore(files.Read(kPartition).value(), "t[3]", kOwner.whose, false, *other.store);
    ASSERT_TRUE(restore.Step(std::chrono::hours(1)).value());
    EXPECT_EQ(Contents(*other.store), Contents(*logged.store));
    EXPECT_EQ(other.store->Position(), logged.store->Position());
    EXPECT_EQ(other.store->SnapshotPosition(), Offset{0}) << "the snapshot topic may lack everybody";
  }
}

TEST_F(SnapshotFileTest, ADirectoryThatHoldsSomethingIsLeftAlone) {
  const LoggedStore logged = SomeUsers(5);
  Write(logged);
  const auto refused = [&](const fs::path& path) {
    const auto begun = NewSnapshot::Begin(path, kOwner);
    return begun.ok() ? "begun" : begun.error().message();
  };
  EXPECT_EQ(refused(directory_), directory_.string() + ": expected a new or an empty directory");
  EXPECT_EQ(refused(file_), file_.string() + ": expected a new or an empty directory");
  const fs::path empty = temporary_.path() / "empty";
  fs::create_directory(empty);
  {
    const auto first = NewSnapshot::Begin(empty / "", kOwner);
    ASSERT_TRUE(first.ok()) << first.error().message();
    EXPECT_THAT(refused(empty), HasSubstr("empty.incomplete: is there"));
    ASSERT_TRUE((*first)->Add(kPartition, *logged.store, Ignore).ok());
  }
  EXPECT_TRUE(fs::is_empty(empty)) << "nothing of what was not finished";
  EXPECT_FALSE(fs::exists(temporary_.path() / "empty.incomplete"));
  const auto second = NewSnapshot::Begin(empty, kOwner).value();
  const auto interrupted =
      second->Add(kPartition, *logged.store, [](int64_t) { return Error(ErrorCode::kCancelled, "interrupted"); });
  EXPECT_EQ(interrupted.error().code(), ErrorCode::kCancelled);
  ASSERT_TRUE(second->Add(kPartition, *logged.store, Ignore).ok());
  ASSERT_TRUE(second->Finish().ok());
  EXPECT_TRUE(SnapshotFiles::Find(empty, kOwner).ok());
}

TEST_F(SnapshotFileTest, WhatIsNotWholeIsRefused) {
  const LoggedStore logged = SomeUsers(5);
  const fs::path log = temporary_.path() / "commits.json";
  std::ofstream(log) << "{}";
  const fs::path incomplete = directory_.string() + ".incomplete";
  const fs::path killed = temporary_.path() / "killed";
  {
    const auto snapshot = NewSnapshot::Begin(directory_, kOwner).value();
    ASSERT_TRUE(snapshot->Add(kPartition, *logged.store, Ignore).ok());
    fs::copy(incomplete, killed);
    ASSERT_TRUE(snapshot->AddFile(log).ok());
    ASSERT_TRUE(snapshot->Finish().ok());
  }
  const auto refused = [](const fs::path& directory) {
    const auto found = SnapshotFiles::Find(directory, kOwner);
    return found.ok() ? "not refused" : found.error().message();
  };
  EXPECT_EQ(refused(directory_), "not refused");
  EXPECT_THAT(refused(killed), HasSubstr("killed: not a whole snapshot: CONTENTS is missing, which is written last"));
  std::ofstream(killed / "CONTENTS") << "partition-00003.snap";
  EXPECT_THAT(refused(killed), HasSubstr("killed: not a whole snapshot: CONTENTS breaks off"));
  fs::copy(file_, directory_ / "partition-00001.snapshot.zst");
  EXPECT_THAT(refused(directory_), HasSubstr("expected \"freshet-snapshot 1: partition 1 of 4"));
  fs::remove(directory_ / "partition-00001.snapshot.zst");
  fs::remove(directory_ / "commits.json");
  EXPECT_THAT(refused(directory_), HasSubstr("commits.json is missing, which CONTENTS names"));
}

TEST_F(SnapshotFileTest, AnothersIsRefusedByName) {
  Write(SomeUsers(5));
  const std::string found =
      "partition-00003.snapshot.zst: found \"freshet-snapshot 1: partition 3 of 4, application "
      "a, topic t\", expected \"freshet-snapshot 1: partition 3 of ";
  const auto expect = [&](const SnapshotOwner& owner, const std::string& expected) {
    const Error error = Refused(owner);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.message(), HasSubstr(found + expected + '"'));
  };
  expect({"application b, topic t", 4}, "4, application b, topic t");
  expect({"application a, topic u", 4}, "4, application a, topic u");
  expect({"application a, topic t", 5}, "5, application a, topic t");
  EXPECT_THAT(Refused({"application a, topic t", 2}).message(),
              HasSubstr("holds none of partition-00000.snapshot.zst to partition-00001.snapshot.zst"));
  fs::rename(file_, directory_ / "partition-00002.snapshot.zst");
  EXPECT_THAT(Refused().message(),
              AllOf(HasSubstr("partition-00002.snapshot.zst: found \"freshet-snapshot 1: partition 3"),
                    HasSubstr("expected \"freshet-snapshot 1: partition 2 of 4")));
}

TEST_F(SnapshotFileTest, AnotherFormatIsRefusedByName) {
  Write(SomeUsers(5));
  std::string content = Content();
  content[content.find('1')] = '2';
  Put(content);
  EXPECT_THAT(Refused().message(),
              AllOf(HasSubstr("found \"freshet-snapshot 2: "), HasSubstr("expected \"freshet-snapshot 1: ")));
  for (const std::string& other : {std::string(), std::string("PAR1"), std::string(5000, 'x')}) {
    Put(other);
    EXPECT_EQ(Refused().code(), ErrorCode::kCorrupt);
    EXPECT_THAT(Refused().message(),
                HasSubstr("partition-00003.snapshot.zst: found no header, expected \"freshet-snapshot 1"));
  }
}

TEST_F(SnapshotFileTest, AFlippedBitInAnyByteIsFound) {
  Write(SomeUsers(3));
  const std::string content = Content();
  for (size_t bit = 0; bit < 8 * content.size(); bit += 9) {  // one of each byte
    std::string damaged = content;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    Put(damaged);
    ASSERT_THAT(Refused().message(), HasSubstr("snapshot " + file_.string() + ": ")) << bit;
  }
  Put(content);
  EXPECT_EQ(Refused().message(), "not refused");
}

TEST_F(SnapshotFileTest, EveryTruncationIsFound) {
  Write(SomeUsers(3));
  const std::string content = Content();
  const size_t header = content.find('\n') + 1;
  for (size_t size = header; size < content.size(); ++size) {
    Put(content.substr(0, size));
    const Error error = Refused();
    ASSERT_EQ(error.code(), ErrorCode::kCorrupt) << size;
    ASSERT_THAT(error.message(), HasSubstr(": record ")) << size;
  }
  Put(content.substr(0, header));
  EXPECT_THAT(Refused().message(), HasSubstr("record 0, at byte " + std::to_string(header) +
                                             " of the content: the file ends, expected a watermark"));
  Put(content.substr(0, content.size() - 1));
  EXPECT_THAT(Refused().message(), HasSubstr("record 3, at byte "));
  EXPECT_THAT(Refused().message(), HasSubstr("the file ends within it"));
  Put(content + "x");
  EXPECT_THAT(Refused().message(), HasSubstr("found more bytes behind it"));
  std::string long_record = content;
  long_record[header + 3] = '\x7f';
  Put(long_record);
  EXPECT_THAT(Refused().message(),
              HasSubstr("record 0, at byte " + std::to_string(header) + " of the content: found lengths 213"));
}

TEST_F(SnapshotFileTest, DamageOfTheCompressedBytesIsFound) {
  Write(SomeUsers(2000));
  const auto size = fs::file_size(file_);
  for (const auto left : {size - 1, size / 2, size / 4}) {
    fs::resize_file(file_, left);
    EXPECT_THAT(Refused().message(), AllOf(HasSubstr(file_.string()), HasSubstr("the compressed data breaks off")));
  }
}

}  // namespace
}  // namespace freshet
