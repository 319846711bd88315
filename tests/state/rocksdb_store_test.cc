// What only RocksDB's store does: evict, meet damage on disk, take options.
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <chrono>
#include <fstream>
#include <map>
#include <thread>

#include "tests/state/state_test_support.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

std::string UserName(int n) { return "user-" + std::to_string(n); }

// Writes `count` users with five events each.
void Fill(UserStateStore& store, int count) {
  int64_t offset = store.Position() ? Raw(*store.Position()) : 0;
  for (int n = 0; n < count; ++n) {
    const std::string id = UserName(n);
    const std::vector<std::string_view> ids = {id};
    const auto loaded = store.Load(ids);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    for (int event = 0; event < 5; ++event, ++offset) {
      (*loaded)[0]->Append(TestToken(static_cast<uint64_t>(offset)), Offset{offset}, kUnknownItem);
    }
    if (n % 100 == 99) {
      ASSERT_TRUE(store.Apply(Offset{offset}).ok());
    }
  }
  ASSERT_TRUE(store.Apply(Offset{offset}).ok());
}

Status LoadOne(UserStateStore& store, std::string_view user) {
  const std::vector<std::string_view> ids = {user};
  const auto loaded = store.Load(ids);
  return loaded.ok() ? Status() : Status(loaded.error());
}

// Tables that are never compacted slow writes down at the third, to 100 kB a second. A start makes one of the log.
TEST(RocksDbStore, TellsOfItsDiskAndOfWritesThatWait) {
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path());
  options.rocksdb_options =
      "compaction_style=kCompactionStyleNone;level0_file_num_compaction_trigger=3;level0_slowdown_writes_trigger=3;"
      "level0_stop_writes_trigger=100;delayed_write_rate=100000";
  OnePartition partition(options);
  const DiskStats empty = partition.store().Disk();
  EXPECT_EQ(empty.table_bytes, 0);
  EXPECT_EQ(empty.stalled, 0);
  for (int table = 0; table < 3; ++table) {
    Fill(partition.store(), 1);
    partition.Reopen();
  }
  const DiskStats slow = partition.store().Disk();
  EXPECT_GT(slow.table_bytes, 0);
  EXPECT_GT(slow.memtable_bytes, 0);
  EXPECT_GT(slow.block_cache_bytes, 0);
  EXPECT_EQ(slow.stalled, 1);
  EXPECT_EQ(slow.stall_us, 0) << "nobody wrote yet";
  Fill(partition.store(), 300);
  EXPECT_GT(partition.store().Disk().stall_us, 10'000);
}

// Where snapshots go elsewhere, they need everybody there; and where they come back, all that changed meanwhile.
TEST(RocksDbStore, EachSnapshotTopicHasAPositionOfItsOwn) {
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path());
  const auto saved = [&](const std::string& topic, std::optional<int64_t> now) {
    options.snapshots = topic;
    OnePartition partition(options);
    const std::optional<Offset> before = partition.store().SnapshotPosition();
    if (now) {
      partition.store().SetSnapshotPosition(Offset{*now});
      EXPECT_TRUE(partition.store().Apply(Offset{*now}).ok());
    }
    return before;
  };
  EXPECT_EQ(saved("a", 3), std::nullopt);
  EXPECT_EQ(saved("b", 5), std::nullopt);
  EXPECT_EQ(saved("a", 7), Offset{3});
  EXPECT_EQ(saved("b", std::nullopt), Offset{5});
  EXPECT_EQ(saved("a", std::nullopt), Offset{7});
}

TEST(RocksDbStore, EvictsDownToItsBudgetAndReadsBack) {
  const TemporaryDirectory directory;
  OnePartition partition(SmallOptions(directory.path()));
  UserStateStore& store = partition.store();
  store.SetHotBytes(100'000);
  Fill(store, 2000);
  const StoreStats stats = store.Stats();
  EXPECT_LE(stats.hot_bytes, 100'000);
  EXPECT_GT(stats.hot_bytes, 90'000);
  EXPECT_EQ(stats.evictions, 2000 - stats.hot_users);
  for (int n = 0; n < 2000; ++n) {
    const std::string id = UserName(n);
    const std::vector<std::string_view> ids = {id};
    const auto loaded = store.Load(ids);
    ASSERT_TRUE(loaded.ok());
    ASSERT_EQ((*loaded)[0]->profile().events, 5);
    ASSERT_EQ((*loaded)[0]->tokens()[4], TestToken(static_cast<uint64_t>(n * 5 + 4)));
  }
  store.SetHotBytes(0);
  EXPECT_EQ(store.Stats().hot_users, 0);
  EXPECT_EQ(store.Stats().hot_bytes, 0);
}

TEST(RocksDbStore, EvictsTheLeastRecentlyUsedAndNoChangedUser) {
  const TemporaryDirectory directory;
  OnePartition partition(SmallOptions(directory.path()));
  UserStateStore& store = partition.store();
  Fill(store, 10);
  ASSERT_TRUE(LoadOne(store, UserName(0)).ok());
  const std::string changed = UserName(1);
  const std::vector<std::string_view> ids = {changed};
  ASSERT_EQ((*store.Load(ids))[0]->Append(TestToken(1), Offset{50}, kUnknownItem), Appended::kTaken);
  store.SetHotBytes(static_cast<size_t>(store.Stats().hot_bytes) / 5);
  EXPECT_EQ(store.Stats().unsaved_users, 1);
  const int64_t misses = store.Stats().misses;
  ASSERT_TRUE(LoadOne(store, UserName(0)).ok());
  EXPECT_EQ((*store.Load(ids))[0]->profile().events, 6);
  EXPECT_EQ(store.Stats().misses, misses);
  ASSERT_TRUE(LoadOne(store, UserName(5)).ok());
  EXPECT_EQ(store.Stats().misses, misses + 1);
}

TEST(RocksDbStore, GrowthBetweenCallsCountsAtTheNextOne) {
  const TemporaryDirectory directory;
  OnePartition partition(SmallOptions(directory.path()));
  UserStateStore& store = partition.store();
  Fill(store, 3);
  const std::string id = UserName(1);
  const std::vector<std::string_view> ids = {id};
  UserState* const user = (*store.Load(ids))[0];
  user->key_values().block_bytes = 400'000;
  user->key_values().blocks.push_back(AllocateAlignedBytes(400'000));
  const int64_t before = store.Stats().hot_bytes;
  ASSERT_TRUE(LoadOne(store, UserName(0)).ok());
  EXPECT_GE(store.Stats().hot_bytes, before + 400'000);
  store.SetHotBytes(100'000);
  EXPECT_LE(store.Stats().hot_bytes, 100'000);
}

TEST(RocksDbStore, HistoryMayChange) {
  const TemporaryDirectory directory;
  for (const size_t history : {20, 3, 20}) {
    StateOptions options = SmallOptions(directory.path(), history);
    options.shorten_history = true;
    OnePartition partition(options);
    if (history == 20 && !partition.store().Position()) Fill(partition.store(), 4);
    const auto found = partition.store().Find(UserName(2));
    ASSERT_TRUE(found.ok() && *found != nullptr);
    EXPECT_EQ((*found)->tokens().size(), std::min<size_t>(history, 5));
    EXPECT_EQ((*found)->tokens().back(), TestToken(14));
  }
}

class DamagedStore : public testing::Test {
 protected:
  void SetUp() override { Fill(partition_.store(), 200); }

  // What RocksDB's folder holds under `key` from now on.
  void Overwrite(const std::string& key, const std::string& value) {
    partition_.Close();
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), Folder().string(), &db).ok());
    EXPECT_TRUE(db->Put({}, key, value).ok());
    delete db;
  }
  fs::path Folder() const { return directory_.path() / "partition-3"; }

  TemporaryDirectory directory_;
  OnePartition partition_{SmallOptions(directory_.path())};
};

TEST_F(DamagedStore, NamesPartitionAndUserOfACorruptValue) {
  Overwrite("uuser-7", "garbage");
  partition_.Reopen();
  UserStateStore& store = partition_.store();
  const std::vector<std::string_view> ids = {"user-6", "user-7", "new"};
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto loaded = store.Load(ids);
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().code(), ErrorCode::kCorrupt);
    EXPECT_NE(loaded.error().message().find("partition 3"), std::string::npos) << loaded.error().message();
    EXPECT_NE(loaded.error().message().find("user \"user-7\""), std::string::npos) << loaded.error().message();
  }
  const auto found = store.Find("user-7");
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.error().message().find("user-7"), std::string::npos);
  const Status each = store.ForEach([](const UserState&) { return true; });
  ASSERT_FALSE(each.ok());
  EXPECT_NE(each.error().message().find("user-7"), std::string::npos);
  // The others live on.
  EXPECT_TRUE(LoadOne(store, "user-6").ok());
  EXPECT_TRUE(store.Apply(Offset{5000}).ok());
}

TEST_F(DamagedStore, RefusesACorruptPosition) {
  Overwrite("mposition", "x");
  EXPECT_THROW(partition_.Reopen(), std::runtime_error);
}

TEST_F(DamagedStore, ReportsDamagedTableFiles) {
  partition_.Reopen();
  Fill(partition_.store(), 5000);
  partition_.Reopen();  // recovery turns the log into a table file
  partition_.Close();
  fs::path largest;  // a small one may hold the position beside its users: that is found when the store is opened
  for (const auto& entry : fs::directory_iterator(Folder())) {
    if (entry.path().extension() != ".sst") continue;
    if (largest.empty() || entry.file_size() > fs::file_size(largest)) largest = entry.path();
  }
  ASSERT_FALSE(largest.empty());
  std::fstream file(largest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(largest) / 2));
  file.write("damage", 6);
  file.close();
  partition_.Reopen();
  int corrupt = 0;
  for (int n = 0; n < 5000; ++n) {
    const Status loaded = LoadOne(partition_.store(), UserName(n));
    if (loaded.ok()) continue;
    ++corrupt;
    EXPECT_EQ(loaded.error().code(), ErrorCode::kCorrupt) << loaded.error().message();
    EXPECT_NE(loaded.error().message().find(UserName(n)), std::string::npos);
  }
  EXPECT_GT(corrupt, 0);
}

// Damage of the folder itself, of which RocksDB would make a partition that holds less, or nothing.
class DamagedFolder : public DamagedStore {
 protected:
  // Tables, of which each needs the list; then a crash, or an orderly end, is the same to it.
  void SetUp() override {
    for (int n = 0; n < 3; ++n) {
      Fill(partition_.store(), 5000);
      if (n < 2) partition_.Reopen();
    }
    partition_.Close();
    fs::copy(directory_.path(), whole_, fs::copy_options::recursive);
  }
  // Refused as often as it is tried, by writers and readers, and nothing is touched.
  void ExpectRefused(const std::string& fragment) {
    const auto list = [&] {
      std::map<std::string, uintmax_t> files;
      for (const auto& file : fs::directory_iterator(Folder())) files[file.path().filename()] = file.file_size();
      return files;
    };
    const auto before = list();
    for (const bool read_only : {false, true, false}) {
      StateOptions options = SmallOptions(directory_.path());
      options.read_only = read_only;
      const auto opened = StateDirectory::Open(options).value()->OpenPartition(PartitionId{3});
      ASSERT_FALSE(opened.ok());
      EXPECT_EQ(opened.error().code(), ErrorCode::kCorrupt);
      EXPECT_NE(opened.error().message().find(fragment), std::string::npos) << opened.error().message();
    }
    EXPECT_EQ(list(), before);
  }
  fs::path Manifest() const {
    std::string name;
    std::getline(std::ifstream(Folder() / "CURRENT"), name);
    return Folder() / name;
  }
  void PutBack() const {
    fs::remove_all(Folder());
    fs::copy(whole_ / "partition-3", Folder());
  }

  TemporaryDirectory backup_;
  const fs::path whole_ = backup_.path() / "whole";
};

TEST_F(DamagedFolder, IsNotTakenForANewOneWhereCurrentIsGone) {
  fs::remove(Folder() / "CURRENT");
  ExpectRefused(
      "partition-3/CURRENT is missing, which the state beside it needs; put it back from a backup, or remove ");
  fs::remove(Folder() / "PARTITION");
  ExpectRefused("partition-3/CURRENT is missing");
  // A crash while it was made is no loss.
  for (const auto& file : fs::directory_iterator(Folder())) {
    if (file.path().extension() == ".sst" || file.path().extension() == ".log") fs::remove(file);
  }
  EXPECT_NO_THROW(partition_.Reopen());
}

TEST_F(DamagedFolder, IsRefusedWhereTheListOfTablesIsCutOff) {
  const auto bytes = fs::file_size(Manifest());
  for (const auto percent : {0, 50, 70, 90}) {
    PutBack();
    fs::resize_file(Manifest(), bytes * static_cast<uintmax_t>(percent) / 100);
    ExpectRefused("partition-3: the list of tables that CURRENT names (");
  }
  PutBack();
  const fs::path old = Folder() / "MANIFEST-000001";
  fs::copy(Manifest(), old, fs::copy_options::overwrite_existing);
  std::ofstream(Folder() / "CURRENT") << "MANIFEST-000001\n";
  ExpectRefused("is older than");
  PutBack();
  EXPECT_NO_THROW(partition_.Reopen());
  EXPECT_EQ((*partition_.store().Find(UserName(4999)))->profile().events, 15);
}

// A process that is killed renews nothing when it ends.
TEST_F(DamagedFolder, TheListIsKnownAsOfTheLastFlush) {
  const auto mark = [&] {
    std::ifstream file(Folder() / "PARTITION");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  partition_.Reopen();
  const std::string opened = mark();
  while (mark() == opened) {
    Fill(partition_.store(), 1000);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const std::string last = mark();
  partition_.Close();
  std::ofstream(Folder() / "PARTITION") << last;
  fs::resize_file(Manifest(), std::stoull(last.substr(last.rfind(' '))) - 1);
  ExpectRefused("the list of tables");
}

TEST_F(DamagedFolder, IsRefusedWhereItIsAnotherPartitions) {
  fs::copy(Folder(), directory_.path() / "partition-77");
  const auto states = StateDirectory::Open(SmallOptions(directory_.path())).value();
  const auto opened = states->OpenPartition(PartitionId{77});
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kCorrupt);
  EXPECT_NE(
      opened.error().message().find("partition-77: holds partition 3 of application test, expected partition 77 "),
      std::string::npos)
      << opened.error().message();
  ASSERT_TRUE(states->OpenPartition(PartitionId{3}).ok());
  for (const std::string mark :
       {"", "x", "partition 3 of application test\n", "partition 3 of application test\nMANIFEST-",
        "partition 3 of application test\nMANIFEST-1 2\nmore"}) {
    std::ofstream(Folder() / "PARTITION") << mark;
    const auto unclear = states->OpenPartition(PartitionId{3});
    ASSERT_FALSE(unclear.ok()) << mark;
    EXPECT_NE(unclear.error().message().find("PARTITION: not whose partition this is"), std::string::npos);
  }
  // From before there were marks.
  fs::remove(Folder() / "PARTITION");
  ASSERT_TRUE(states->OpenPartition(PartitionId{3}).ok());
  EXPECT_TRUE(fs::exists(Folder() / "PARTITION"));
}

TEST(RocksDbOptions, MayMakeBuffersAsSmallAsTheyLike) {
  for (const size_t bytes : {size_t{1} << 10, size_t{64} << 10, size_t{100} << 10, size_t{1} << 20}) {
    for (const char* const more : {"", "write_buffer_size=1", "arena_block_size=1073741824"}) {
      const TemporaryDirectory directory;
      StateOptions options = SmallOptions(directory.path());
      options.write_buffer_bytes = bytes;
      options.rocksdb_options = more;
      OnePartition partition(options);
      Fill(partition.store(), 300);
      partition.Reopen();
      EXPECT_EQ((*partition.store().Find(UserName(299)))->profile().events, 5) << bytes << " " << more;
    }
  }
}

TEST(RocksDbOptions, AreTakenVerbatim) {
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path());
  options.rocksdb_options = "max_open_files=33;compression=kNoCompression;block_based_table_factory={block_size=8192;}";
  OnePartition partition(options);
  Fill(partition.store(), 10);
  partition.Close();
  std::string persisted;
  for (const auto& entry : fs::directory_iterator(directory.path() / "partition-3")) {
    if (!entry.path().filename().string().starts_with("OPTIONS")) continue;
    std::ifstream file(entry.path());
    persisted.assign(std::istreambuf_iterator<char>(file), {});
  }
  EXPECT_NE(persisted.find("max_open_files=33"), std::string::npos);
  EXPECT_NE(persisted.find("  compression=kNoCompression"), std::string::npos);
  EXPECT_NE(persisted.find("block_size=8192"), std::string::npos);
  EXPECT_NE(persisted.find("cache_index_and_filter_blocks=true"), std::string::npos) << "ours stay where none is given";
  partition.Reopen();
  EXPECT_TRUE(LoadOne(partition.store(), UserName(1)).ok());
}

TEST(RocksDbOptions, AreRefusedWithTheirName) {
  for (const char* const text : {"no_such_option=1", "max_open_files=many", "max_open_files", "{"}) {
    const TemporaryDirectory directory;
    StateOptions options = SmallOptions(directory.path());
    options.rocksdb_options = text;
    const auto opened = StateDirectory::Open(options);
    ASSERT_FALSE(opened.ok()) << text;
    EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(opened.error().message().find("state.rocksdb_options: \"" + std::string(text)), std::string::npos)
        << opened.error().message();
  }
}

// Places that snapshots went to may be gone back to: as long as one of them holds a user, the deletion is known.
TEST(RocksDbStore, ForgottenUsersStayForEverySnapshot) {
  const TemporaryDirectory directory;
  const auto left_of_forgotten = [](UserStateStore& store) {
    std::string after;
    int64_t left = 0;
    EXPECT_TRUE(
        store.Scan(after, 100, [&](const StoredUser& user) { return left += user.forgotten ? 1 : 0, true; }).ok());
    return left;
  };
  int64_t offset = 0;
  const auto forget = [&](UserStateStore& store, const std::string& id) {
    const std::vector<std::string_view> ids = {id};
    store.Load(ids).value()[0]->Append(TestToken(1), Offset{offset++}, kUnknownItem);
    store.Load(ids).value()[0]->Forget(Offset{offset++});
    EXPECT_TRUE(store.Apply(Offset{offset}).ok());
  };
  StateOptions options = SmallOptions(directory.path());
  options.snapshots = "";
  {
    OnePartition without(options);
    forget(without.store(), "u1");
    EXPECT_EQ(left_of_forgotten(without.store()), 0) << "nobody could bring the user back";
  }
  options.snapshots = "first";
  {
    OnePartition first(options);
    first.store().SetSnapshotPosition(Offset{offset});
    forget(first.store(), "u2");
    EXPECT_EQ(left_of_forgotten(first.store()), 1);
  }
  for (const std::string place : {"", "second"}) {
    options.snapshots = place;
    OnePartition later(options);
    later.store().SetSnapshotPosition(Offset{offset});
    forget(later.store(), "u" + place);
    EXPECT_EQ(later.store().SnapshottedUpTo(), Offset{2}) << "that of the first";
  }
  OnePartition last(options);
  EXPECT_EQ(left_of_forgotten(last.store()), 3);
}

}  // namespace
}  // namespace freshet
