// Users as the records of a snapshot topic or file. Pure functions.
//
//   key      := 'u' <user id>
//             | 'm' <whose>             // the watermark; another application's never replaces it
//   value    := format:u8 crc:u32 payload  // little endian; CRC-32 (zlib's) of the key and the payload
//   payload  := of a user: its stored bytes (state/codec.h): tokens, profile, applied offset, never keys/values
//             | of a watermark: position:i64 <whose>
//
// A record of a user without a value says that the user was forgotten (in a topic, where an older record may stand
// before it); in a file such a user has the payload that the store has.
//
// Every change before the watermark's position of the input is in the snapshot.
//
// A snapshot is fuzzy: a user may be newer than the watermark. Its applied offset makes that safe: the events that come
// again change nothing.
#pragma once

#include <string>
#include <string_view>

#include "core/ids.h"
#include "core/result.h"

namespace freshet {

std::string SnapshotUserKey(std::string_view user);
std::string WatermarkKey(std::string_view whose);
bool IsWatermarkKey(std::string_view key);

// The value of a record.
std::string EncodeSnapshot(std::string_view key, std::string_view payload);
// Key and value of the largest user whose id has `id_bytes` and of whom `history` tokens are kept.
size_t MaxSnapshotBytes(size_t id_bytes, size_t history);
// The payload, a view into `value`. kCorrupt, saying what is wrong, where EncodeSnapshot() did not make it.
Result<std::string_view> DecodeSnapshot(std::string_view key, std::string_view value);

// The user of a key; empty where it is none.
std::string_view UserOfSnapshotKey(std::string_view key);

// `whose` names what the snapshot belongs to, so that nobody restores another's.
struct Watermark {
  Offset position{};
  std::string whose;
};
std::string EncodeWatermark(const Watermark& watermark);
Result<Watermark> DecodeWatermark(std::string_view payload);

}  // namespace freshet
