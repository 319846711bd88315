#include "pipeline/snapshot_writer.h"

#include <gmock/gmock.h>

#include "state/codec.h"
#include "state/snapshot.h"
#include "tests/pipeline/snapshot_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr milliseconds kInterval{60'000};
constexpr milliseconds kCommitInterval{100};

// What one call of Next() gave, taken apart.
struct Given {
  std::vector<std::string> users;
  std::vector<std::string> forgotten;
  std::optional<Watermark> watermark;
  size_t bytes = 0;
};

class SnapshotWriterTest : public testing::Test {
 protected:
  Given Next() {
    std::vector<SnapshotRecord> records;
    const Status status = writer_.Next(*logged_.store, now_, records);
    EXPECT_TRUE(status.ok()) << status.error().message();
    Given given;
    for (const SnapshotRecord& record : records) {
      if (record.value.empty()) {
        given.forgotten.emplace_back(UserOfSnapshotKey(record.key));
        continue;
      }
      const std::string_view payload = DecodeSnapshot(record.key, record.value).value();
      given.bytes += record.key.size() + record.value.size();
      EXPECT_FALSE(given.watermark) << "nothing of a cycle comes behind its watermark";
      if (IsWatermarkKey(record.key)) {
        given.watermark = DecodeWatermark(payload).value();
      } else {
        given.users.emplace_back(UserOfSnapshotKey(record.key));
      }
    }
    return given;
  }

  // A commit every 100 ms: what the writer gave until its watermark. `each` is done before each.
  Given Cycle(const std::function<void()>& each = [] {}) {
    const TimePoint began = now_;
    Given all;
    while (!all.watermark && now_ - began <= kInterval) {
      each();
      Given given = Next();
      logged_.Apply();
      all.users.insert(all.users.end(), given.users.begin(), given.users.end());
      all.forgotten.insert(all.forgotten.end(), given.forgotten.begin(), given.forgotten.end());
      all.watermark = given.watermark;
      now_ += kCommitInterval;
    }
    EXPECT_TRUE(all.watermark) << "no watermark within the interval";
    EXPECT_LE(now_ - began, kInterval / 2 + kCommitInterval);
    return all;
  }

  // Users that the store has, and what is left of forgotten ones.
  int64_t Stored() {
    std::string after;
    int64_t stored = 0;
    EXPECT_TRUE(logged_.store->Scan(after, 100, [&](const StoredUser&) { return ++stored, true; }).ok());
    return stored;
  }

  using TimePoint = SnapshotWriter::TimePoint;
  LoggedStore logged_;
  TimePoint start_ = TimePoint() + std::chrono::hours(1);
  TimePoint now_ = start_;
  SnapshotWriter writer_{"freshet, events", kInterval, start_};
};

std::vector<std::string> Users(int count) {
  std::vector<std::string> users;
  for (int n = 10'000; n < 10'000 + count; ++n) users.push_back("u" + std::to_string(n));
  return users;
}

TEST_F(SnapshotWriterTest, AStoreWithoutAPositionHasNoSnapshot) {
  EXPECT_THAT(Next().users, IsEmpty());
  now_ += kInterval;
  const Given given = Next();
  EXPECT_THAT(given.users, IsEmpty());
  EXPECT_FALSE(given.watermark);
}

TEST_F(SnapshotWriterTest, EachCycleWritesWhoChangedOnceAndNobodyElse) {
  const std::vector<std::string> users = Users(5000);
  for (const std::string& user : users) logged_.Add(user);
  logged_.Apply();
  int events = 0;  // while the cycle runs, of users behind and before where it is
  const Given first = Cycle([&] {
    if (events++ < 20) logged_.Add(users[static_cast<size_t>(events) * 200]);
  });
  EXPECT_EQ(first.users, users);
  EXPECT_EQ(first.watermark->position, Offset{5000}) << "where the store was when the cycle began";
  EXPECT_EQ(first.watermark->whose, "freshet, events");
  EXPECT_EQ(logged_.store->SnapshotPosition(), Offset{5000});

  now_ = start_ + kInterval / 2;
  logged_.Add("new");
  logged_.Apply();
  const Given second = Cycle();
  std::vector<std::string> changed = {"new"};
  for (size_t n = 1; n <= 20; ++n) changed.push_back(users[n * 200]);
  EXPECT_EQ(second.users, changed);
  EXPECT_EQ(second.watermark->position, Offset{5021});

  for (int cycle = 0; cycle < 3; ++cycle) {  // nothing changed
    now_ += kInterval;
    EXPECT_THAT(Next().users, IsEmpty());
  }
  logged_.Add(users[7]);
  logged_.Apply();
  EXPECT_THAT(Cycle().users, ElementsAre(users[7]));
}

TEST_F(SnapshotWriterTest, ACycleBeginsHalfAnIntervalAfterTheOneBefore) {
  logged_.Add("a");
  logged_.Apply();
  EXPECT_THAT(Next().users, ElementsAre("a"));
  logged_.Add("a");
  logged_.Apply();
  now_ = start_ + kInterval / 2 - milliseconds(1);
  EXPECT_THAT(Next().users, IsEmpty());
  now_ += milliseconds(1);
  const Given given = Next();
  EXPECT_THAT(given.users, ElementsAre("a"));
  EXPECT_EQ(given.watermark->position, Offset{2});
}

TEST_F(SnapshotWriterTest, WhatIsNotAppliedIsNotWritten) {
  logged_.Add("a");
  logged_.Apply();
  logged_.Add("a");
  logged_.Add("b");
  const Given given = Next();
  EXPECT_THAT(given.users, ElementsAre("a"));
  EXPECT_EQ(given.watermark->position, Offset{1});
}

// The commit came to nothing: the store forgets the position, a new writer begins again.
TEST_F(SnapshotWriterTest, ANewWriterBeginsTheCycleAgain) {
  logged_.Add("a");
  logged_.Apply();
  ASSERT_TRUE(Next().watermark);
  logged_.store->Discard();
  SnapshotWriter writer("freshet, events", kInterval, now_);
  std::vector<SnapshotRecord> records;
  ASSERT_TRUE(writer.Next(*logged_.store, now_, records).ok());
  EXPECT_EQ(records.size(), 2u);
}

// The commit came to nothing, and the store is still here.
TEST_F(SnapshotWriterTest, ACycleGoesOnFromTheLastCommit) {
  const std::vector<std::string> users = Users(100);
  for (const std::string& user : users) logged_.Add(user);
  logged_.Apply();
  std::vector<std::string> seen = Next().users;
  EXPECT_FALSE(writer_.Committed());
  const size_t committed = seen.size();
  ASSERT_GT(Next().users.size(), 0u);
  logged_.Add(users[0]);  // behind the cursor; not applied, and then silently again
  logged_.store->Discard();
  writer_.Discard();
  logged_.TakeIn(logged_.log, 100);
  logged_.Apply();
  std::optional<Watermark> watermark;
  while (!watermark && seen.size() < 1000) {
    const Given given = Next();
    if (seen.size() == committed) {
      EXPECT_EQ(given.users.front(), users[committed]) << "nothing is left out";
    }
    seen.insert(seen.end(), given.users.begin(), given.users.end());
    watermark = given.watermark;
    EXPECT_EQ(writer_.Committed(), watermark.has_value());
  }
  EXPECT_EQ(seen, users);
  EXPECT_EQ(watermark->position, Offset{100}) << "where the store was when the cycle began";
}

// However late a call is, and however many users there are.
TEST_F(SnapshotWriterTest, ACallGivesABoundedNumberOfUsers) {
  for (const std::string& user : Users(10'000)) logged_.Add(user);
  logged_.Apply();
  EXPECT_EQ(Next().users.size(), 32u) << "the least";
  now_ += kInterval;
  EXPECT_EQ(Next().users.size(), 4096u);
  EXPECT_EQ(Next().users.size(), 4096u);
  const Given last = Next();
  EXPECT_EQ(last.users.size(), 10'000u - 32 - 2 * 4096);
  EXPECT_TRUE(last.watermark);
}

TEST_F(SnapshotWriterTest, ACallGivesABoundedNumberOfBytes) {
  UserState user("large", 4000);
  for (int64_t n = 0; n < 4000; ++n) user.Append(TestToken(static_cast<uint64_t>(n)), Offset{n}, kUnknownItem);
  std::string bytes;
  StateCodec::EncodeAll(user, bytes);
  ASSERT_GT(bytes.size(), 80'000u);
  for (const std::string& id : Users(200)) {
    const StoredUser stored{.id = id, .bytes = bytes};
    ASSERT_TRUE(logged_.store->Restore({&stored, 1}).ok());
  }
  ASSERT_TRUE(logged_.store->Apply(Offset{4000}).ok());
  Next();
  now_ += kInterval;
  size_t seen = 32;
  for (bool done = false; !done;) {
    const Given given = Next();
    EXPECT_LT(given.bytes, (size_t{4} << 20) + 2 * bytes.size());
    seen += given.users.size();
    done = given.watermark.has_value() || given.users.empty();
  }
  EXPECT_EQ(seen, 200u);
}

// What the snapshot is for: its newest records, and the log from its watermark on, give the store, at any time.
TEST_F(SnapshotWriterTest, WithTheLogFromTheWatermarkOnItIsTheStore) {
  std::mt19937_64 random(TestSeed());
  std::map<std::string, std::string> topic;  // compacted
  std::optional<SnapshotWriter> writer;
  int watermarks = 0;
  for (int step = 0; step < 1200; ++step) {
    now_ += milliseconds(random() % 400);
    if (!writer) writer.emplace("freshet", milliseconds(4000), now_);
    std::vector<SnapshotRecord> records;
    ASSERT_TRUE(writer->Next(*logged_.store, now_, records).ok());
    for (uint64_t n = random() % 3; n > 0; --n) logged_.Add("u" + std::to_string(random() % 100));
    if (random() % 50 == 0) {  // the commit comes to nothing, and what it held is read again
      const auto first = static_cast<size_t>(Raw(logged_.store->Position().value_or(Offset{0})));
      logged_.store->Discard();
      if (random() % 4 == 0) {
        writer.reset();
      } else {
        writer->Discard();
      }
      for (size_t offset = first; offset < logged_.log.size(); ++offset) logged_.TakeIn(logged_.log, offset);
      continue;
    }
    logged_.Apply();
    if (!records.empty()) writer->Committed();
    for (const SnapshotRecord& record : records) topic[record.key] = record.value;
    if (records.empty() || !topic.contains(WatermarkKey("freshet"))) continue;
    LoggedStore other;
    size_t position = 0;
    for (const auto& [key, value] : topic) {
      const std::string_view payload = DecodeSnapshot(key, value).value();
      if (IsWatermarkKey(key)) {
        position = static_cast<size_t>(Raw(DecodeWatermark(payload).value().position));
        continue;
      }
      const StoredUser user{.id = UserOfSnapshotKey(key), .bytes = payload};
      ASSERT_TRUE(other.store->Restore({&user, 1}).ok());
    }
    watermarks += IsWatermarkKey(records.back().key) ? 1 : 0;
    if (!IsWatermarkKey(records.back().key) && random() % 20 != 0) continue;
    for (; position < logged_.log.size(); ++position) other.TakeIn(logged_.log, position);
    ASSERT_TRUE(other.store->Apply(Offset{std::ssize(logged_.log)}).ok());
    ASSERT_EQ(Contents(*other.store), Contents(*logged_.store)) << "step " << step;
  }
  EXPECT_GT(watermarks, 20);
}

TEST_F(SnapshotWriterTest, AForgottenUserIsATombstoneAndThenNothing) {
  for (const std::string& user : Users(3)) logged_.Add(user);
  logged_.Apply();
  Cycle();
  const std::vector<std::string_view> id = {"u10001"};
  logged_.log.push_back("u10001");
  ASSERT_TRUE(logged_.store->Load(id).value()[0]->Forget(Offset{3}));
  logged_.Apply();
  const Given second = Cycle();
  EXPECT_THAT(second.users, IsEmpty());
  EXPECT_THAT(second.forgotten, ElementsAre("u10001"));
  logged_.Add("u10000");
  logged_.Apply();
  EXPECT_EQ(Stored(), 3);
  const Given third = Cycle();
  EXPECT_THAT(third.users, ElementsAre("u10000"));
  EXPECT_THAT(third.forgotten, IsEmpty());
  EXPECT_EQ(Stored(), 2);
}

// What came to nothing told nobody: it is told again, and stays until it was.
TEST_F(SnapshotWriterTest, AForgottenUserStaysUntilTheSnapshotIsCommitted) {
  logged_.Add("u1");
  logged_.Apply();
  Cycle();
  const std::vector<std::string_view> id = {"u1"};
  logged_.log.push_back("u1");
  ASSERT_TRUE(logged_.store->Load(id).value()[0]->Forget(Offset{1}));
  logged_.Apply();
  for (int attempt = 0; attempt < 3; ++attempt) {
    now_ += kInterval;
    EXPECT_THAT(Next().forgotten, ElementsAre("u1"));
    logged_.store->Discard();
    writer_.Discard();
    EXPECT_EQ(Stored(), 1);
  }
}

}  // namespace
}  // namespace freshet
