// Processes that die, that hold the directory, that may not write: each in a child, so that RocksDB's threads never
// meet a fork(). The parent opens no partition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "state/codec.h"
#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr size_t kHistory = 20;
constexpr uint64_t kUsers = 300;

class Child {
 public:
  // `work` returns what went wrong, or nothing.
  explicit Child(const std::function<std::string()>& work) {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      std::string said;
      try {
        said = work();
      } catch (const std::exception& error) {
        said = error.what();
      }
      if (::write(ends[1], said.data(), said.size()) < 0) ::_exit(2);
      ::_exit(0);
    }
    ::close(ends[1]);
    from_child_ = ends[0];
  }
  ~Child() { ::close(from_child_); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Kill() const { ::kill(pid_, SIGKILL); }
  // What it returned; "died" where it did not come to an end of its own.
  std::string Wait() const {
    std::string said;
    char block[4096];
    for (ssize_t n; (n = ::read(from_child_, block, sizeof(block))) > 0;) said.append(block, static_cast<size_t>(n));
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? said : "died";
  }

 private:
  pid_t pid_ = 0;
  int from_child_ = -1;
};

std::string InChild(const std::function<std::string()>& work) { return Child(work).Wait(); }

// The log: event n is of this user.
std::string UserOfEvent(int64_t n) {
  return "u" + std::to_string(std::mt19937_64(static_cast<uint64_t>(n))() % kUsers);
}

StateOptions CrashOptions(const std::filesystem::path& path) {
  StateOptions options = SmallOptions(path, kHistory);
  options.hot_cache_bytes = 30'000;      // evicts all the time
  options.write_buffer_bytes = 200'000;  // flushes often, so that kills meet flushes and compactions
  return options;
}

// Consumes the log from the store's position until it is killed; after `die_after` batches it dies before Apply().
std::string Consume(const StateOptions& options, uint64_t seed, int die_after) {
  OnePartition partition(options);
  UserStateStore& store = partition.store();
  std::mt19937_64 random(seed);
  int64_t next = store.Position() ? Raw(*store.Position()) : 0;
  for (int batch = 0;; ++batch) {
    std::vector<std::string> ids;
    const int64_t first = next;
    for (uint64_t n = 1 + random() % 50; n > 0; --n) ids.push_back(UserOfEvent(next++));
    const std::vector<std::string_view> views(ids.begin(), ids.end());
    const auto loaded = store.Load(views);
    if (!loaded.ok()) return loaded.error().message();
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t offset = first + static_cast<int64_t>(i);
      const auto n = static_cast<uint64_t>(offset);
      if ((*loaded)[i]->Append(TestToken(n), Offset{offset}, kUnknownItem, TestId(n)) != Appended::kTaken) {
        return "state leads the position at offset " + std::to_string(offset);
      }
    }
    if (batch == die_after) ::_exit(1);
    const Status applied = store.Apply(Offset{next});
    if (!applied.ok()) return applied.error().message();
  }
}

// Position p and exactly the events before p.
std::string CheckAgainstLog(const StateOptions& options) {
  OnePartition partition(options);
  const int64_t position = partition.store().Position() ? Raw(*partition.store().Position()) : 0;
  std::map<std::string, PlainUser> expected;
  for (int64_t n = 0; n < position; ++n) {
    const auto number = static_cast<uint64_t>(n);
    expected[UserOfEvent(n)].Append(TestToken(number), Offset{n}, TestId(number));
  }
  std::string wrong;
  size_t seen = 0;
  const Status each = partition.store().ForEach([&](const UserState& user) {
    ++seen;
    if (!(Plain(user) == expected[user.user_id()].Newest(kHistory))) wrong = user.user_id() + " differs";
    return wrong.empty();
  });
  if (!each.ok()) return each.error().message();
  if (!wrong.empty()) return wrong;
  if (seen != expected.size()) return std::to_string(seen) + " of " + std::to_string(expected.size()) + " users";
  return "position " + std::to_string(position);
}

TEST(StateProcess, AKilledProcessLeavesStatesAndPositionThatAgree) {
  const TemporaryDirectory directory;
  const StateOptions options = CrashOptions(directory.path());
  std::mt19937_64 random(TestSeed());
  int64_t position = 0;
  for (int round = 0; round < 12; ++round) {
    const uint64_t seed = random();
    const bool by_itself = round % 4 == 3;
    const Child consumer([&] {
      return Consume(options, seed, by_itself ? static_cast<int>(seed % 100) : std::numeric_limits<int>::max());
    });
    if (!by_itself) {
      ::usleep(static_cast<useconds_t>(20'000 + random() % 150'000));
      consumer.Kill();
    }
    ASSERT_EQ(consumer.Wait(), "died");
    const std::string found = InChild([&] { return CheckAgainstLog(options); });
    ASSERT_TRUE(found.starts_with("position ")) << "round " << round << ": " << found;
    const int64_t now = std::stoll(found.substr(9));
    EXPECT_GE(now, position);
    position = now;
  }
  EXPECT_GT(position, 1000) << "the children hardly did anything";
}

// A store is restored and, where `applied`, its position applied, when its process is killed. What is then on disk.
std::string RestoreAndDie(const StateOptions& options, bool applied) {
  const Child child([&]() -> std::string {
    UserState user("u", kHistory);
    user.Append(TestToken(7), Offset{7}, kUnknownItem);
    std::string bytes;
    StateCodec::EncodeAll(user, bytes);
    OnePartition partition(options);
    for (int n = 0; n < 1000; ++n) {
      const std::string id = "u" + std::to_string(n);
      const StoredUser stored{.id = id, .bytes = bytes};
      const Status restored = partition.store().Restore({&stored, 1});
      if (!restored.ok()) return restored.error().message();
    }
    partition.store().SetSnapshotPosition(Offset{8});
    if (applied && !partition.store().Apply(Offset{8}).ok()) return "not applied";
    ::kill(::getpid(), SIGKILL);
    return "alive";
  });
  if (const std::string said = child.Wait(); said != "died") return said;
  return InChild([&]() -> std::string {
    OnePartition partition(options);
    int users = 0;
    const auto count = [&](const UserState& user) { return users += user.applied_offset() == Offset{7}, true; };
    if (!partition.store().ForEach(count).ok()) return "cannot be read";
    const auto show = [](std::optional<Offset> offset) { return offset ? std::to_string(Raw(*offset)) : "none"; };
    return std::to_string(users) + " users, position " + show(partition.store().Position()) + ", snapshot " +
           show(partition.store().SnapshotPosition());
  });
}

TEST(StateProcess, ARestoredStoreIsThereAfterItsApply) {
  const TemporaryDirectory directory;
  const StateOptions options = SmallOptions(directory.path(), kHistory);
  // Half a restore leaves no position, so that it is begun again.
  EXPECT_THAT(RestoreAndDie(options, false), testing::EndsWith("users, position none, snapshot none"));
  EXPECT_EQ(RestoreAndDie(options, true), "1000 users, position 8, snapshot 8");
}

std::string OpenMessage(const StateOptions& options) {
  const auto opened = StateDirectory::Open(options);
  return opened.ok() ? "opened" : opened.error().message();
}

TEST(StateProcess, OneProcessAtATime) {
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path());
  auto held = StateDirectory::Open(options);
  ASSERT_TRUE(held.ok());
  const std::string message = InChild([&] { return OpenMessage(options); });
  EXPECT_NE(message.find("in use by process " + std::to_string(::getpid())), std::string::npos) << message;
  EXPECT_NE(message.find(directory.path().string()), std::string::npos) << message;
  options.read_only = true;
  EXPECT_NE(InChild([&] { return OpenMessage(options); }).find("in use by process"), std::string::npos);
  held->reset();
  EXPECT_EQ(InChild([&] { return OpenMessage(options); }), "opened");
}

TEST(StateProcess, ADeadHolderHoldsNothing) {
  const TemporaryDirectory directory;
  const StateOptions options = SmallOptions(directory.path());
  EXPECT_EQ(InChild([&]() -> std::string {
              auto held = StateDirectory::Open(options);
              if (!held.ok()) return held.error().message();
              ::_exit(3);
            }),
            "died");
  EXPECT_EQ(InChild([&] { return OpenMessage(options); }), "opened");
}

// Permission bits bind only those who are not root.
std::string AsNobody(const std::function<std::string()>& work) {
  return InChild([&]() -> std::string {
    constexpr uid_t kNobody = 65534;
    if (::getuid() == 0 && (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) return "cannot become nobody";
    return work();
  });
}

TEST(StateProcess, ADirectoryThatMayNotBeWritten) {
  const TemporaryDirectory directory;
  StateOptions options = SmallOptions(directory.path() / "state");
  ASSERT_TRUE(InChild([&]() -> std::string {
                OnePartition partition(options);
                const std::vector<std::string_view> ids = {"u"};
                (*partition.store().Load(ids))[0]->Append(TestToken(1), Offset{1}, kUnknownItem);
                return partition.store().Apply(Offset{2}).ok() ? "" : "not applied";
              }).empty());
  ::chmod(directory.path().c_str(), 0555);
  ::chmod(options.directory.c_str(), 0555);
  ::chmod((options.directory / "partition-3").c_str(), 0555);
  const std::string refused = AsNobody([&] { return OpenMessage(options); });
  EXPECT_NE(refused.find(options.directory.string()), std::string::npos) << refused;
  EXPECT_NE(refused.find("Permission denied"), std::string::npos) << refused;
  StateOptions fresh = options;
  fresh.directory = directory.path() / "fresh";
  const std::string not_made = AsNobody([&] { return OpenMessage(fresh); });
  EXPECT_NE(not_made.find("cannot create: Permission denied"), std::string::npos) << not_made;

  options.read_only = true;
  const std::string read = AsNobody([&]() -> std::string {
    OnePartition partition(options);
    const auto found = partition.store().Find("u");
    return found.ok() && *found != nullptr ? "found " + std::to_string((*found)->profile().events) : "not found";
  });
  EXPECT_EQ(read, "found 1");
  ::chmod(directory.path().c_str(), 0755);
  ::chmod(options.directory.c_str(), 0755);
  ::chmod((options.directory / "partition-3").c_str(), 0755);
}

// Appends until the disk is full; what the error says, and whether the store still stands at its last position.
std::string FillDisk(const StateOptions& options) {
  OnePartition partition(options);
  UserStateStore& store = partition.store();
  for (int64_t n = 0; n < 1'000'000; ++n) {
    const std::string id = "user-" + std::to_string(n);
    const std::vector<std::string_view> ids = {id};
    const auto loaded = store.Load(ids);
    if (!loaded.ok()) return loaded.error().message();
    (*loaded)[0]->Append(TestToken(static_cast<uint64_t>(n)), Offset{n}, kUnknownItem);
    if (n % 100 != 99) continue;
    const std::optional<Offset> before = store.Position();
    const Status applied = store.Apply(Offset{n + 1});
    if (!applied.ok()) return store.Position() == before ? applied.error().message() : "the position moved";
  }
  return "never full";
}

TEST(StateProcess, AFullDiskIsAnErrorThatNamesIt) {
  const TemporaryDirectory directory;
  const std::string found = InChild([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", directory.path().c_str(), "tmpfs", 0, "size=3m") != 0) {
      return "cannot mount: " + std::string(std::strerror(errno));
    }
    return FillDisk(SmallOptions(directory.path()));
  });
  if (found.starts_with("cannot mount")) GTEST_SKIP() << "needs a small file system of its own: " << found;
  EXPECT_NE(found.find("No space left on device"), std::string::npos) << found;
  EXPECT_NE(found.find(directory.path().string()), std::string::npos) << found;
}

}  // namespace
}  // namespace freshet
