#include "state/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "state/codec.h"

namespace freshet {
namespace {

using testing::HasSubstr;

const std::string kPayload("\x00 any \xff bytes", 12);

std::string DamageOf(std::string_view key, std::string_view value) {
  const Result<std::string_view> payload = DecodeSnapshot(key, value);
  if (payload.ok()) return "none";
  EXPECT_EQ(payload.error().code(), ErrorCode::kCorrupt);
  return payload.error().message();
}

TEST(Snapshot, WhatWasEncodedComesBack) {
  for (const std::string& user : {std::string("u1"), std::string("\0\xff", 2), std::string(2000, 'x')}) {
    for (const std::string& payload : {std::string(), kPayload, std::string(100'000, 'p')}) {
      const std::string key = SnapshotUserKey(user);
      const std::string value = EncodeSnapshot(key, payload);
      const Result<std::string_view> decoded = DecodeSnapshot(key, value);
      ASSERT_TRUE(decoded.ok()) << decoded.error().message();
      EXPECT_EQ(*decoded, payload);
      EXPECT_EQ(UserOfSnapshotKey(key), user);
    }
  }
}

// The form on disk and in the topic: what an older freshet wrote is read for ever.
TEST(Snapshot, NoUserIsLargerThanItSays) {
  constexpr size_t kHistory = 100;
  UserState user("user", kHistory);
  for (int i = 0; i < 500; ++i) user.Append({.time_ms = i}, Offset{i}, {}, EventIdHash{static_cast<uint64_t>(i + 1)});
  std::string bytes;
  StateCodec::EncodeAll(user, bytes);
  const std::string key = SnapshotUserKey("user");
  EXPECT_EQ(key.size() + EncodeSnapshot(key, bytes).size(), MaxSnapshotBytes(4, kHistory));
}

TEST(Snapshot, TheBytesAreThoseOfTheFormat) {
  EXPECT_EQ(EncodeSnapshot("uab", "cd"), std::string("\x01\xaf\x8a\xd6\x3b"
                                                     "cd",
                                                     7));
}

TEST(Snapshot, TheWatermarkIsNoUser) {
  const std::string key = WatermarkKey("application a");
  EXPECT_EQ(UserOfSnapshotKey(key), "");
  EXPECT_TRUE(IsWatermarkKey(key));
  EXPECT_EQ(UserOfSnapshotKey(""), "");
  EXPECT_FALSE(IsWatermarkKey(SnapshotUserKey("application a")));
  EXPECT_NE(WatermarkKey("application b"), key) << "compaction keeps both";
}

TEST(Snapshot, EveryFlippedBitOfValueAndKeyIsFound) {
  const std::string key = SnapshotUserKey("u1");
  const std::string value = EncodeSnapshot(key, kPayload);
  const auto flipped = [](std::string bytes, size_t bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    return bytes;
  };
  for (size_t bit = 0; bit < 8 * value.size(); ++bit) {
    EXPECT_THAT(DamageOf(key, flipped(value, bit)), HasSubstr(bit < 8 ? "expected 1" : "its checksum")) << bit;
  }
  for (size_t bit = 0; bit < 8 * key.size(); ++bit) {
    EXPECT_THAT(DamageOf(flipped(key, bit), value), HasSubstr("its checksum")) << bit;
  }
}

TEST(Snapshot, ARecordCutShortIsFound) {
  const std::string key = SnapshotUserKey("u1");
  const std::string value = EncodeSnapshot(key, kPayload);
  for (size_t size = 0; size < value.size(); ++size) {
    const std::string expected =
        size < 5 ? "snapshot record: found " + std::to_string(size) + " bytes, expected at least 5" : "its checksum";
    EXPECT_THAT(DamageOf(key, value.substr(0, size)), HasSubstr(expected)) << size;
  }
  EXPECT_THAT(DamageOf(key, value + '\0'), HasSubstr("its checksum"));
  EXPECT_THAT(DamageOf("", value), HasSubstr("its checksum"));
}

TEST(Snapshot, AnotherFormatIsNamed) {
  std::string value = EncodeSnapshot("uu1", kPayload);
  value.front() = '\xff';
  EXPECT_EQ(DamageOf("uu1", value), "snapshot record: found format 255, expected 1");
}

TEST(Snapshot, AWatermarkComesBack) {
  for (const int64_t position : {int64_t{0}, int64_t{4711}, std::numeric_limits<int64_t>::max()}) {
    for (const std::string& whose : {std::string(), std::string("freshet, events"), std::string("\0\n", 2)}) {
      const Result<Watermark> decoded = DecodeWatermark(EncodeWatermark({Offset{position}, whose}));
      ASSERT_TRUE(decoded.ok()) << decoded.error().message();
      EXPECT_EQ(decoded->position, Offset{position});
      EXPECT_EQ(decoded->whose, whose);
    }
  }
}

TEST(Snapshot, AWatermarkWithoutAPositionIsRefused) {
  for (const std::string& payload :
       {std::string(), std::string(7, '\1'), std::string(8, '\xff'), EncodeWatermark({Offset{-1}, "freshet"})}) {
    const Result<Watermark> decoded = DecodeWatermark(payload);
    ASSERT_FALSE(decoded.ok());
    EXPECT_EQ(decoded.error().code(), ErrorCode::kCorrupt);
    EXPECT_EQ(decoded.error().message(), "snapshot record: a watermark without a position");
  }
}

}  // namespace
}  // namespace freshet
