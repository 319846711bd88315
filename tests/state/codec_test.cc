#include "state/codec.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/state/state_test_support.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// Consecutive deltas of one user, as Apply() would write them, and the user after the last.
struct Deltas {
  std::vector<std::string> bytes;
  PlainUser user;
};

Deltas RandomDeltas(std::mt19937_64& random, size_t count) {
  Deltas deltas;
  UserState user("u", 1000);
  int64_t offset = -1;
  for (size_t i = 0; i < count; ++i) {
    for (uint64_t n = 1 + random() % 12; n > 0; --n) {
      const Token token = RandomToken(random);
      const EventIdHash id = n == 1 ? kNoEventId : RandomId(random);  // so that no delta is empty
      offset += static_cast<int64_t>(1 + random() % 100);
      user.Append(token, Offset{offset}, kUnknownItem, id);
      deltas.user.Append(token, Offset{offset}, id);
    }
    StateCodec::EncodeUnsaved(user, deltas.bytes.emplace_back());
    StateCodec::MarkSaved(user);
  }
  return deltas;
}

std::vector<std::string_view> Views(const std::vector<std::string>& strings) {
  return {strings.begin(), strings.end()};
}

std::string Merge(const std::string& a, const std::string& b, size_t history) {
  return MergeDeltas(Views({a, b}), history);
}

PlainUser Decoded(const std::string& bytes, size_t history) {
  UserState user("u", history);
  const Status decoded = StateCodec::Decode(bytes, user);
  EXPECT_TRUE(decoded.ok()) << decoded.error().message();
  return Plain(user);
}

TEST(StateCodec, DecodesWhatItEncoded) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 200; ++round) {
    const size_t history = 1 + random() % 40;
    UserState user("u", history);
    for (int64_t n = 0, end = static_cast<int64_t>(1 + random() % 100); n < end; ++n) {
      user.Append(RandomToken(random), Offset{n}, kUnknownItem, RandomId(random));
    }
    std::string bytes;
    StateCodec::EncodeAll(user, bytes);
    EXPECT_EQ(Decoded(bytes, history), Plain(user));
    const size_t less = 1 + random() % history;
    EXPECT_EQ(Decoded(bytes, less), Plain(user).Newest(less));
  }
}

TEST(StateCodec, AForgottenUserIsNothingButAnOffset) {
  UserState user("u", 3);
  for (int64_t n = 0; n < 9; ++n) user.Append(TestToken(1), Offset{n}, kUnknownItem, TestId(static_cast<uint64_t>(n)));
  std::string before, bytes;
  StateCodec::EncodeUnsaved(user, before);
  StateCodec::MarkSaved(user);
  EXPECT_FALSE(user.Forget(Offset{8}));
  EXPECT_FALSE(StateCodec::HasUnsaved(user));
  EXPECT_TRUE(user.Forget(Offset{12}));
  EXPECT_TRUE(StateCodec::HasUnsaved(user));
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user));
  StateCodec::EncodeUnsaved(user, bytes);
  EXPECT_EQ(bytes.size(), 9U);
  EXPECT_EQ(Decoded(bytes, 3), Plain(user));
  EXPECT_EQ(Plain(user), (PlainUser{.tokens = {}, .ids = {}, .profile = {}, .applied_offset = Offset{12}}));
  EXPECT_TRUE(DecodeDelta(bytes)->forgotten());
  EXPECT_EQ(Merge(before, bytes, 3), bytes);

  StateCodec::MarkSaved(user);
  EXPECT_EQ(user.Append(TestToken(2), Offset{12}, kUnknownItem), Appended::kRepeat);
  EXPECT_EQ(user.Append(TestToken(2), Offset{13}, kUnknownItem, TestId(3)), Appended::kTaken);
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user)) << "what comes next takes the place of what was there";
  std::string next;
  StateCodec::EncodeUnsaved(user, next);
  EXPECT_EQ(Decoded(Merge(bytes, next, 3), 3), Plain(user));
  EXPECT_EQ(Decoded(MergeDeltas(Views({before, bytes, next}), 3), 3), Plain(user));

  for (size_t cut = 1; cut < bytes.size(); ++cut) EXPECT_FALSE(DecodeDelta(bytes.substr(0, cut)).ok());
  EXPECT_FALSE(DecodeDelta(bytes + "x").ok());
  bytes.back() = '\xff';  // a negative offset
  EXPECT_FALSE(DecodeDelta(bytes).ok());
}

TEST(StateCodec, KnowsWhatIsUnsaved) {
  UserState user("u", 3);
  EXPECT_FALSE(StateCodec::HasUnsaved(user));
  user.Append(TestToken(1), Offset{1}, kUnknownItem);
  EXPECT_TRUE(StateCodec::HasUnsaved(user));
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user));
  StateCodec::MarkSaved(user);
  EXPECT_FALSE(StateCodec::HasUnsaved(user));
  user.Append(TestToken(2), Offset{2}, kUnknownItem);
  EXPECT_FALSE(StateCodec::UnsavedIsAll(user));
  for (uint64_t n = 3; n < 100; ++n) user.Append(TestToken(n), Offset{static_cast<int64_t>(n)}, kUnknownItem);
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user));
  std::string bytes;
  StateCodec::EncodeUnsaved(user, bytes);
  EXPECT_EQ(Decoded(bytes, 3), Plain(user));
}

TEST(StateCodec, EventIdsAreUnsavedAsTokensAre) {
  UserState user("u", 3);
  int64_t offset = 0;
  const auto append = [&](uint64_t id) { user.Append(TestToken(id), Offset{offset++}, kUnknownItem, TestId(id)); };
  append(0);
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user));
  StateCodec::MarkSaved(user);
  for (uint64_t id = 1; id < 64; ++id) append(id);
  EXPECT_FALSE(StateCodec::UnsavedIsAll(user)) << "all tokens, but not the first event's id";
  append(0);
  append(63);
  EXPECT_FALSE(StateCodec::UnsavedIsAll(user)) << "duplicates change nothing";
  append(64);
  EXPECT_TRUE(StateCodec::UnsavedIsAll(user));
  std::string bytes;
  StateCodec::EncodeUnsaved(user, bytes);
  EXPECT_EQ(Decoded(bytes, 3), Plain(user));
  StateCodec::MarkSaved(user);
  append(64);
  EXPECT_FALSE(StateCodec::HasUnsaved(user));
}

TEST(StateCodec, StoredBytesDoNotChangeUnnoticed) {
  UserState user("u", 3);
  user.Append(Token{ItemHash{0x0807060504030201}, TypeHash{0x0c0b0a09}, 0x0d}, Offset{5}, kUnknownItem);
  std::string bytes;
  StateCodec::EncodeAll(user, bytes);
  const auto number = [](int64_t value) { return std::string(1, static_cast<char>(value)) + std::string(7, '\0'); };
  const std::string token = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c" + number(13);
  EXPECT_EQ(bytes, "\x02" + number(5) + number(1) + number(13) + number(13) + number(1) + number(13) + number(1) +
                       std::string(1, '\0') + token);
  user.Append(user.tokens()[0], Offset{6}, kUnknownItem, EventIdHash{7});
  StateCodec::EncodeAll(user, bytes);
  EXPECT_EQ(bytes, "\x02" + number(6) + number(2) + number(13) + number(13) + number(1) + number(13) + number(2) +
                       "\x01" + token + token + number(7));
  EXPECT_EQ(EncodePosition(Offset{7}), "\x02" + number(7));
}

TEST(MergeDeltas, IsThePlainUserCutToHistory) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 300; ++round) {
    const Deltas deltas = RandomDeltas(random, 1 + random() % 10);
    const size_t history = 1 + random() % 60;
    EXPECT_EQ(Decoded(MergeDeltas(Views(deltas.bytes), history), history), deltas.user.Newest(history));
  }
}

TEST(MergeDeltas, KeepsExactlyTheNewest64EventIds) {
  UserState user("u", 5);
  std::string merged;
  for (uint64_t n = 0; n < 200; ++n) {
    user.Append(TestToken(n), Offset{static_cast<int64_t>(n)}, kUnknownItem, TestId(n));
    std::string delta;
    StateCodec::EncodeUnsaved(user, delta);
    StateCodec::MarkSaved(user);
    merged = n == 0 ? delta : Merge(merged, delta, 5);
    const PlainUser stored = Decoded(merged, 5);
    ASSERT_EQ(stored, Plain(user));
    ASSERT_EQ(stored.ids.size(), std::min<size_t>(n + 1, 64));
    ASSERT_EQ(stored.ids.back(), TestId(n));
    ASSERT_EQ(stored.ids.front(), TestId(n < 64 ? 0 : n - 63));
  }
}

TEST(MergeDeltas, IsAssociative) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 1000; ++round) {
    std::vector<std::string> d = RandomDeltas(random, 3).bytes;
    if (round % 4 == 0) d[random() % 3][0] = 9;  // damage stays damage, however it is merged
    if (round % 8 == 0) d[random() % 3].resize(random() % 80);
    const size_t history = 1 + random() % 30;
    const std::string together = MergeDeltas(Views(d), history);
    ASSERT_EQ(Merge(Merge(d[0], d[1], history), d[2], history), together);
    ASSERT_EQ(Merge(d[0], Merge(d[1], d[2], history), history), together);
  }
}

TEST(MergeDeltas, KeepsTheFirstCorruptDeltaAsItIs) {
  std::mt19937_64 random(TestSeed());
  const Deltas deltas = RandomDeltas(random, 2);
  const std::string damaged = "damaged";
  EXPECT_EQ(MergeDeltas(Views({deltas.bytes[0], damaged, deltas.bytes[1]}), 10), damaged);
  EXPECT_FALSE(DecodeDelta(damaged).ok());
}

TEST(DecodeDelta, SaysWhatIsWrong) {
  std::mt19937_64 random(TestSeed());
  const std::string good = RandomDeltas(random, 1).bytes[0];
  const auto message = [](std::string_view bytes) {
    const auto decoded = DecodeDelta(bytes);
    EXPECT_FALSE(decoded.ok());
    if (decoded.ok()) return std::string();
    EXPECT_EQ(decoded.error().code(), ErrorCode::kCorrupt);
    return decoded.error().message();
  };
  EXPECT_NE(message("").find("found 0 bytes"), std::string::npos);
  EXPECT_NE(message(good.substr(0, good.size() - 1)).find("multiple of 20"), std::string::npos);
  EXPECT_NE(message("\x01" + good.substr(1)).find("found format 1, expected 2"), std::string::npos);
  std::string negative = good;
  negative[8] = '\x80';
  EXPECT_NE(message(negative).find("applied offset"), std::string::npos);
  std::string no_events = good;
  no_events.replace(9, 8, 8, '\0');
  EXPECT_NE(message(no_events).find("counters disagree: 0 events"), std::string::npos);
  std::string many_ids = good;
  many_ids[57] = 65;
  EXPECT_NE(message(many_ids + std::string(65 * 8, 'x')).find("65 event ids (at most 64)"), std::string::npos);
  many_ids[57] = 64;
  EXPECT_NE(message(many_ids.substr(0, 58)).find("64 event ids"), std::string::npos);
  EXPECT_NE(message(many_ids.substr(0, 58) + std::string(64 * 8, 'x')).find("counters disagree"), std::string::npos);
}

// The bounded run of tests/state/state_codec_fuzz.cc's idea that every build makes.
TEST(DecodeDelta, SurvivesMutatedBytes) {
  std::mt19937_64 random(TestSeed());
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string bytes = RandomDeltas(random, 1).bytes[0];
    const std::string intact = bytes;
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      switch (random() % 3) {
        case 0:
          bytes[random() % bytes.size()] = static_cast<char>(random());
          break;
        case 1:
          bytes.resize(1 + random() % bytes.size());
          break;
        default:
          bytes.insert(random() % bytes.size(), 1 + random() % 30, static_cast<char>(random()));
      }
    }
    UserState user("u", 5);
    if (StateCodec::Decode(bytes, user).ok()) {
      ++accepted;
      ASSERT_LE(user.tokens().size(), 5u);
      ASSERT_EQ(user.Append(TestToken(1), Next(user.applied_offset()), kUnknownItem), Appended::kTaken);
      std::string again;
      StateCodec::EncodeAll(user, again);
      ASSERT_TRUE(DecodeDelta(again).ok());
    } else {
      ++refused;
    }
    const std::string merged = Merge(bytes, intact, 5);
    ASSERT_LE(merged.size(), std::max(bytes.size(), intact.size()) + 5 * 20 + 64 * 8);
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

TEST(DecodePosition, RefusesWhatIsNoPosition) {
  EXPECT_EQ(*DecodePosition(EncodePosition(Offset{1234})), Offset{1234});
  for (const std::string& bytes :
       {std::string(), std::string("\x02"), EncodePosition(Offset{1}) + "x", "\x01" + std::string(8, '\0')}) {
    EXPECT_FALSE(DecodePosition(bytes).ok());
  }
}

TEST(CheckAdvance, RefusesToGoBack) {
  EXPECT_TRUE(CheckAdvance(std::nullopt, Offset{0}).ok());
  EXPECT_TRUE(CheckAdvance(Offset{5}, Offset{5}).ok());
  EXPECT_FALSE(CheckAdvance(Offset{5}, Offset{4}).ok());
}

}  // namespace
}  // namespace freshet
