// What the tests of snapshots share: a store with a log behind it, and what a store holds as plain values.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/state/state_test_support.h"

namespace freshet {

inline constexpr size_t kSnapshotHistory = 8;

// A memory store and the log that it consumes, of which a record is no more than its user.
struct LoggedStore {
  std::unique_ptr<UserStateStore> store = MakeMemoryStore(kSnapshotHistory);
  std::vector<std::string> log;

  // Appends an event to the log, and to its user; durable with the next Apply().
  void Add(const std::string& user) {
    log.push_back(user);
    TakeIn(log, log.size() - 1);
  }
  void TakeIn(const std::vector<std::string>& from, size_t offset) const {
    const std::vector<std::string_view> ids = {from[offset]};
    store->Load(ids).value()[0]->Append(TestToken(offset), Offset{static_cast<int64_t>(offset)}, kUnknownItem);
  }
  void Apply() const { ASSERT_TRUE(store->Apply(Offset{std::ssize(log)}).ok()); }
};

inline std::map<std::string, PlainUser> Contents(UserStateStore& store) {
  std::map<std::string, PlainUser> users;
  const auto keep = [&](const UserState& user) { return users.emplace(user.user_id(), Plain(user)), true; };
  EXPECT_TRUE(store.ForEach(keep).ok());
  return users;
}

}  // namespace freshet
