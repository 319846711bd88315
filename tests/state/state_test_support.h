// What the tests of state/ share: a store that opens anew, random tokens, and a user as a plain value to compare with.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "state/store.h"
#include "tests/support/temporary_directory.h"

namespace freshet {

// A directory of one partition, opened anew by Reopen().
class OnePartition {
 public:
  explicit OnePartition(StateOptions options) : options_(std::move(options)) { Reopen(); }

  UserStateStore& store() { return *store_; }
  void Reopen() {
    Close();
    auto directory = StateDirectory::Open(options_);
    if (!directory.ok()) throw std::runtime_error(directory.error().message());
    directory_ = std::move(*directory);
    auto store = directory_->OpenPartition(PartitionId{3});
    if (!store.ok()) throw std::runtime_error(store.error().message());
    store_ = std::move(*store);
  }
  void Close() {
    store_.reset();
    directory_.reset();
  }

 private:
  StateOptions options_;
  std::unique_ptr<StateDirectory> directory_;
  std::unique_ptr<UserStateStore> store_;
};

inline StateOptions SmallOptions(const std::filesystem::path& directory, size_t history = 8) {
  StateOptions options;
  options.directory = directory;
  options.application = "test";
  options.history = history;
  options.snapshots = "test-snapshots";
  options.hot_cache_bytes = size_t{1} << 20;
  options.block_cache_bytes = size_t{4} << 20;
  options.write_buffer_bytes = size_t{1} << 20;
  return options;
}

// A user's durable content by the book: every token and event id kept, cut when they are compared.
struct PlainUser {
  std::vector<Token> tokens;
  std::vector<EventIdHash> ids;
  Profile profile;
  Offset applied_offset{-1};

  bool operator==(const PlainUser&) const = default;

  Appended Append(const Token& token, Offset offset, EventIdHash id = kNoEventId) {
    if (offset <= applied_offset) return Appended::kRepeat;
    if (id != kNoEventId) {
      for (size_t back = 1; back <= std::min<size_t>(ids.size(), 64); ++back)
        if (ids[ids.size() - back] == id) return Appended::kDuplicate;
      ids.push_back(id);
    }
    tokens.push_back(token);
    profile.Add(token.time_ms);
    applied_offset = offset;
    return Appended::kTaken;
  }
  bool Forget(Offset offset) {
    if (offset <= applied_offset) return false;
    *this = PlainUser{.tokens = {}, .ids = {}, .profile = {}, .applied_offset = offset};
    return true;
  }
  PlainUser Newest(size_t history) const {
    PlainUser cut = *this;
    if (tokens.size() > history) cut.tokens.assign(tokens.end() - static_cast<std::ptrdiff_t>(history), tokens.end());
    if (ids.size() > 64) cut.ids.assign(ids.end() - 64, ids.end());
    return cut;
  }
};

inline PlainUser Plain(const UserState& user) {
  const std::span<const EventIdHash> ids = user.recent_ids().newest();
  return {
      {user.tokens().begin(), user.tokens().end()}, {ids.begin(), ids.end()}, user.profile(), user.applied_offset()};
}

inline std::ostream& operator<<(std::ostream& out, const PlainUser& user) {
  out << "offset " << Raw(user.applied_offset) << ", " << user.profile.events << " events, tokens";
  for (const Token& token : user.tokens) out << ' ' << Raw(token.item) << '@' << token.time_ms;
  out << ", ids";
  for (const EventIdHash id : user.ids) out << ' ' << Raw(id);
  return out;
}

inline Token TestToken(uint64_t n) {
  return Token{ItemHash{n * 0x9E3779B97F4A7C15u}, TypeHash{static_cast<uint32_t>(n % 3)},
               static_cast<int64_t>(1'500'000'000'000 + n * 1000)};
}

inline EventIdHash TestId(uint64_t n) { return EventIdHash{(n + 1) * 0x9E3779B97F4A7C15u}; }

// None, or one of so few that they come again, within the newest 64 and beyond.
inline EventIdHash RandomId(std::mt19937_64& random) { return random() % 3 == 0 ? kNoEventId : TestId(random() % 150); }

inline Token RandomToken(std::mt19937_64& random) {
  return Token{ItemHash{random()}, TypeHash{static_cast<uint32_t>(random())},
               static_cast<int64_t>(random() % 4'000'000'000'000)};
}

}  // namespace freshet
