#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/state/state_test_support.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

class StateDirectoryTest : public testing::Test {
 protected:
  Result<std::unique_ptr<StateDirectory>> Open() { return StateDirectory::Open(options_); }
  std::string Refusal(ErrorCode code) {
    const auto opened = Open();
    EXPECT_FALSE(opened.ok());
    if (opened.ok()) return "";
    EXPECT_EQ(opened.error().code(), code) << opened.error().message();
    EXPECT_NE(opened.error().message().find(options_.directory.string()), std::string::npos)
        << opened.error().message();
    return opened.error().message();
  }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(options_.directory / name, std::ios::binary) << content;
  }
  std::string Read(const std::string& name) {
    std::ifstream file(options_.directory / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  TemporaryDirectory temporary_;
  StateOptions options_ = SmallOptions(temporary_.path() / "deep" / "state");
};

TEST_F(StateDirectoryTest, IsMadeWithItsParents) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(Read("FORMAT"), "freshet-state 2\napplication: test\nhistory: 8\n");
  EXPECT_TRUE(Open().ok());
}

TEST_F(StateDirectoryTest, KeepsFacts) {
  {
    const auto directory = Open();
    ASSERT_TRUE(directory.ok());
    EXPECT_EQ((*directory)->Fact("log_partitions"), std::nullopt);
    ASSERT_TRUE((*directory)->SetFact("log_partitions", "8").ok());
    ASSERT_TRUE((*directory)->SetFact("note", "a: b: c").ok());
    ASSERT_TRUE((*directory)->SetFact("empty", "").ok());
    EXPECT_FALSE((*directory)->SetFact("bad\nkey", "1").ok());
    EXPECT_FALSE((*directory)->SetFact("bad", "1\n2").ok());
    EXPECT_FALSE((*directory)->SetFact("bad:key", "1").ok());
  }
  const auto directory = Open();
  ASSERT_TRUE(directory.ok());
  EXPECT_EQ((*directory)->Fact("log_partitions"), "8");
  EXPECT_EQ((*directory)->Fact("note"), "a: b: c");
  EXPECT_EQ((*directory)->Fact("empty"), "");
  EXPECT_TRUE((*directory)->SetFact("log_partitions", "8").ok());
  const Status changed = (*directory)->SetFact("log_partitions", "9");
  ASSERT_FALSE(changed.ok());
  EXPECT_NE(changed.error().message().find("is 8 there and cannot become 9"), std::string::npos);
}

TEST_F(StateDirectoryTest, RefusesAnotherFormatApplicationOrDamage) {
  ASSERT_TRUE(Open().ok());
  Write("FORMAT", "freshet-state 1\napplication: test\n");
  const std::string format = Refusal(ErrorCode::kInvalidArgument);
  EXPECT_NE(format.find("found format \"freshet-state 1\""), std::string::npos) << format;
  EXPECT_NE(format.find("reads \"freshet-state 2\""), std::string::npos) << format;
  Write("FORMAT", "freshet-state 2\napplication: shop\n");
  const std::string application = Refusal(ErrorCode::kInvalidArgument);
  EXPECT_NE(application.find("application \"shop\", expected \"test\""), std::string::npos) << application;
  for (const std::string damage :
       {"", "x", "\n", "freshet-state 2", "freshet-state 2\n", "freshet-state 2\napplication", "freshet-state 2\nno\n",
        "freshet-state 2\n: x\n", "freshet-state 2\napplication: test\na: 1\na: 2\n", "\xff\xfe\n"}) {
    Write("FORMAT", damage);
    EXPECT_NE(Refusal(ErrorCode::kCorrupt).find("FORMAT: line"), std::string::npos) << damage;
  }
  for (const std::string history : {"", "history: \n", "history: 0\n", "history: 8x\n"}) {
    Write("FORMAT", "freshet-state 2\napplication: test\n" + history);
    EXPECT_NE(Refusal(ErrorCode::kCorrupt).find("FORMAT: history: \""), std::string::npos) << history;
  }
}

// Tokens that user u has when the directory is opened with `options`, after `events` more.
size_t TokensAfter(const StateOptions& options, int events) {
  OnePartition partition(options);
  const std::vector<std::string_view> ids = {"u"};
  for (int n = 0; n < events; ++n) {
    UserState& user = *(*partition.store().Load(ids))[0];
    const Offset offset{user.profile().events};
    user.Append(TestToken(1), offset, kUnknownItem);
    EXPECT_TRUE(partition.store().Apply(Next(offset)).ok());
  }
  return partition.store().Find("u").value()->tokens().size();
}

TEST_F(StateDirectoryTest, TheHistoryGrowsAndIsShortenedOnlyOnPurpose) {
  const auto tokens_with = [&](size_t history, int events) {
    options_.history = history;
    return TokensAfter(options_, events);
  };
  EXPECT_EQ(tokens_with(8, 20), 8u);
  EXPECT_EQ(tokens_with(12, 12), 12u) << "what was forgotten comes back with new events only";
  EXPECT_EQ(tokens_with(5, 1), 12u) << "the model that needed 12 may come back";
  options_.read_only = true;
  EXPECT_EQ(tokens_with(197, 0), 12u) << "who looks takes the directory's own number";
  EXPECT_EQ((*Open())->Fact("history"), "12");
  options_.read_only = false;
  options_.shorten_history = true;
  EXPECT_EQ(tokens_with(5, 0), 5u);
  EXPECT_EQ((*Open())->Fact("history"), "5");
  EXPECT_FALSE((*Open())->SetFact("history", "6").ok());
}

TEST_F(StateDirectoryTest, RefusesPartitionsWithoutFormat) {
  ASSERT_TRUE(Open().ok());
  fs::create_directory(options_.directory / "partition-0");
  fs::remove(options_.directory / "FORMAT");
  EXPECT_NE(Refusal(ErrorCode::kCorrupt).find("partition-0 is there"), std::string::npos);
}

TEST_F(StateDirectoryTest, IsHeldUntilItsLastStoreIsGone) {
  auto directory = Open();
  ASSERT_TRUE(directory.ok());
  const std::string holder = "in use by process " + std::to_string(::getpid());
  EXPECT_NE(Refusal(ErrorCode::kIo).find(holder), std::string::npos);
  auto store = (*directory)->OpenPartition(PartitionId{0});
  ASSERT_TRUE(store.ok());
  directory->reset();
  EXPECT_NE(Refusal(ErrorCode::kIo).find(holder), std::string::npos);
  store->reset();
  EXPECT_TRUE(Open().ok());
}

TEST_F(StateDirectoryTest, ListsAndRemovesPartitions) {
  const auto directory = Open();
  ASSERT_TRUE(directory.ok());
  for (const int32_t id : {10, 2, 0}) ASSERT_TRUE((*directory)->OpenPartition(PartitionId{id}).ok());
  fs::create_directory(options_.directory / "partition-x");
  fs::create_directory(options_.directory / "lost+found");
  const auto listed = (*directory)->Partitions();
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(*listed, (std::vector<PartitionId>{PartitionId{0}, PartitionId{2}, PartitionId{10}}));
  {
    const auto store = (*directory)->OpenPartition(PartitionId{2});
    ASSERT_TRUE(store.ok());
    EXPECT_FALSE((*directory)->RemovePartition(PartitionId{2}).ok());
    EXPECT_FALSE((*directory)->OpenPartition(PartitionId{2}).ok());
  }
  EXPECT_TRUE((*directory)->RemovePartition(PartitionId{2}).ok());
  EXPECT_TRUE((*directory)->RemovePartition(PartitionId{77}).ok());
  EXPECT_FALSE(fs::exists(options_.directory / "partition-2"));
  EXPECT_EQ((*directory)->Partitions()->size(), 2u);
}

// The file LOST in a partition's folder is as old as the loss.
TEST_F(StateDirectoryTest, RemovesPartitionsThatHaveBeenLostForLong) {
  using std::chrono::hours;
  const auto folder = [&](int id) { return options_.directory / ("partition-" + std::to_string(id)); };
  const auto lost_for = [&](int id, hours age) {
    fs::last_write_time(folder(id) / "LOST", fs::file_time_type::clock::now() - age);
  };
  const auto remove = [](StateDirectory& states, hours kept) {
    const auto removed = states.RemoveLostPartition(kept);
    EXPECT_TRUE(removed.ok()) << removed.error().message();
    return removed.ok() && *removed ? Raw(**removed) : -1;
  };
  {
    const auto states = Open().value();
    for (const int32_t id : {0, 1, 2, 3}) ASSERT_TRUE(states->OpenPartition(PartitionId{id}).ok());
    const auto mine = states->OpenPartition(PartitionId{3}).value();
    // Those of before count from now, however long nobody wrote to them.
    for (const int id : {0, 1, 2}) {
      for (const auto& file : fs::directory_iterator(folder(id)))
        fs::last_write_time(file, fs::file_time_type::clock::now() - hours(100));
    }
    EXPECT_EQ(remove(*states, hours(24)), -1);
    for (const int id : {0, 1, 2}) EXPECT_TRUE(fs::exists(folder(id) / "LOST"));
    EXPECT_FALSE(fs::exists(folder(3) / "LOST"));
    lost_for(0, hours(23));
    lost_for(1, hours(25));
    lost_for(2, hours(100));
  }
  // Also of another process, and nothing happens before it is told to.
  const auto states = Open().value();
  EXPECT_EQ(states->Partitions()->size(), 4u);
  const auto back = states->OpenPartition(PartitionId{2}).value();
  EXPECT_FALSE(fs::exists(folder(2) / "LOST"));
  EXPECT_EQ(remove(*states, hours(24)), 1) << "0 is not due yet, 2 is back, 3 was not lost until now";
  EXPECT_FALSE(fs::exists(folder(1)));
  EXPECT_EQ(remove(*states, hours(24)), -1);
  EXPECT_EQ(remove(*states, hours(22)), 0);
  EXPECT_EQ(*states->Partitions(), (std::vector<PartitionId>{PartitionId{2}, PartitionId{3}}));
  lost_for(3, hours(30));
  EXPECT_TRUE(states->OpenPartition(PartitionId{3}).ok()) << "and closed again";
  EXPECT_EQ(remove(*states, hours(24)), -1) << "lost anew";
  EXPECT_EQ(back->Position(), std::nullopt) << "still open";
}

TEST_F(StateDirectoryTest, FinishesAnInterruptedRemoval) {
  ASSERT_TRUE(Open().ok());
  fs::create_directory(options_.directory / "removed-5");
  Write("removed-5/CURRENT", "half");
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(fs::exists(options_.directory / "removed-5"));
}

TEST_F(StateDirectoryTest, ManyPartitionsLiveBesideEachOther) {
  const auto directory = Open();
  ASSERT_TRUE(directory.ok());
  std::vector<std::unique_ptr<UserStateStore>> stores;
  const std::vector<std::string_view> ids = {"u"};
  for (int32_t id = 0; id < 8; ++id) {
    auto store = (*directory)->OpenPartition(PartitionId{id});
    ASSERT_TRUE(store.ok());
    for (int64_t n = 0; n <= id; ++n) (*(*store)->Load(ids))[0]->Append(TestToken(1), Offset{n}, kUnknownItem);
    ASSERT_TRUE((*store)->Apply(Offset{id + 1}).ok());
    stores.push_back(std::move(*store));
  }
  for (int32_t id = 0; id < 8; ++id) EXPECT_EQ((*stores[static_cast<size_t>(id)]->Find("u"))->profile().events, id + 1);
}

TEST_F(StateDirectoryTest, AFileInItsPlaceIsAnError) {
  fs::create_directories(options_.directory.parent_path());
  std::ofstream(options_.directory) << "a file";
  Refusal(ErrorCode::kIo);
  options_.directory = options_.directory / "below";
  Refusal(ErrorCode::kIo);
  options_.directory = "/proc/freshet-state";
  Refusal(ErrorCode::kIo);
}

TEST_F(StateDirectoryTest, ReadingAtRestChangesNothing) {
  options_.read_only = true;
  Refusal(ErrorCode::kIo);
  EXPECT_FALSE(fs::exists(options_.directory));
  options_.read_only = false;
  const std::vector<std::string_view> ids = {"u"};
  {
    const auto directory = Open();
    ASSERT_TRUE(directory.ok());
    const auto store = (*directory)->OpenPartition(PartitionId{0});
    ASSERT_TRUE(store.ok());
    (*(*store)->Load(ids))[0]->Append(TestToken(1), Offset{5}, kUnknownItem);
    ASSERT_TRUE((*store)->Apply(Offset{6}).ok());
    options_.read_only = true;
    EXPECT_NE(Refusal(ErrorCode::kIo).find("in use by process"), std::string::npos);
  }
  const auto reader = Open();
  const auto second_reader = Open();
  ASSERT_TRUE(reader.ok()) << reader.error().message();
  ASSERT_TRUE(second_reader.ok()) << "readers do not exclude each other";
  const auto store = (*reader)->OpenPartition(PartitionId{0});
  ASSERT_TRUE(store.ok()) << store.error().message();
  EXPECT_EQ((*store)->Position(), Offset{6});
  EXPECT_EQ((*(*store)->Find("u"))->profile().events, 1);
  EXPECT_FALSE((*store)->Apply(Offset{7}).ok());
  EXPECT_FALSE((*reader)->SetFact("a", "b").ok());
  EXPECT_FALSE((*reader)->RemovePartition(PartitionId{0}).ok());
  EXPECT_FALSE((*reader)->RemoveLostPartition(std::chrono::milliseconds(0)).ok());
  EXPECT_FALSE((*reader)->OpenPartition(PartitionId{1}).ok());
  EXPECT_FALSE(fs::exists(options_.directory / "partition-1"));
  options_.read_only = false;
  EXPECT_NE(Refusal(ErrorCode::kIo).find("which reads it"), std::string::npos);
}

}  // namespace
}  // namespace freshet
