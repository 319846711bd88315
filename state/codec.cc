// Stored bytes, format 2. Integers are little endian.
//
//   delta     := format applied_offset profile event_ids token* event_id*   // a value and a merge operand alike
//   format    := u8                                          // kFormat
//   applied_offset := i64                                    // >= 0
//   profile   := events first_time_ms last_time_ms sessions session_start_ms session_events   // i64 each
//   event_ids := u8                                          // how many event_id; at most RecentIds::kKept
//   token     := item:u64 type:u32 time_ms:i64               // 20 bytes, oldest first; StableHash() of the ids
//   event_id  := u64                                         // oldest first; StableHash() of the id
//   position  := format next:i64
//   forgotten := u8 applied_offset                           // kForgotten; in place of a delta, of who was forgotten
//   there
//
// Keys of a partition's RocksDB: 'u' <user id> -> delta; 'm' "position" -> position; 'm' "snapshot" <topic> ->
// position.
//
// A user's counters bound each other (1 <= sessions, session_events <= events; kept tokens, event ids <= events), so
// most damage that RocksDB's own checksums do not catch is caught here.
#include "state/codec.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace freshet {
namespace {

static_assert(std::endian::native == std::endian::little, "stored integers are copied as they are");

constexpr char kFormat = 2;
constexpr char kForgotten = 3;
constexpr size_t kHeaderBytes = 1 + 8 + 6 * 8 + 1;
constexpr size_t kTokenBytes = 20;
constexpr size_t kEventIdBytes = 8;
static_assert(RecentIds::kKept <= 255);
constexpr size_t kPositionBytes = 1 + 8;
constexpr size_t kForgottenBytes = 1 + 8;
// Counters stay far from overflow whatever is appended to a decoded user.
constexpr int64_t kMaxCount = int64_t{1} << 62;

template <typename T>
void Write(char*& out, T value) {
  std::memcpy(out, &value, sizeof(value));
  out += sizeof(value);
}

template <typename T>
T Read(const char*& in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  in += sizeof(value);
  return value;
}

Error Corrupt(const std::string& what) { return Error(ErrorCode::kCorrupt, "stored bytes: " + what); }

Status CheckFormat(std::string_view bytes, size_t least_bytes) {
  if (bytes.size() < least_bytes) {
    return Corrupt("found " + std::to_string(bytes.size()) + " bytes, expected at least " +
                   std::to_string(least_bytes));
  }
  if (bytes.front() != kFormat) {
    return Corrupt("found format " + std::to_string(static_cast<unsigned char>(bytes.front())) + ", expected " +
                   std::to_string(kFormat));
  }
  return {};
}

bool Within(int64_t value, int64_t least, int64_t most) { return least <= value && value <= most; }

Status CheckCounters(const Delta& delta) {
  const Profile& profile = delta.profile;
  if (!Within(Raw(delta.applied_offset), 0, kMaxCount)) {
    return Corrupt("applied offset is " + std::to_string(Raw(delta.applied_offset)));
  }
  if (!Within(profile.events, 1, kMaxCount) || !Within(profile.sessions, 1, profile.events) ||
      !Within(profile.session_events, 1, profile.events) ||
      delta.token_count() > static_cast<uint64_t>(profile.events) ||
      delta.event_id_count() > static_cast<uint64_t>(profile.events)) {
    return Corrupt("counters disagree: " + std::to_string(profile.events) + " events, " +
                   std::to_string(profile.sessions) + " sessions, " + std::to_string(profile.session_events) +
                   " events in the newest, " + std::to_string(delta.token_count()) + " tokens, " +
                   std::to_string(delta.event_id_count()) + " event ids");
  }
  return {};
}

Result<Delta> DecodeForgotten(std::string_view bytes) {
  Delta delta;
  const char* in = bytes.data() + 1;
  if (bytes.size() == kForgottenBytes) delta.applied_offset = Offset{Read<int64_t>(in)};
  if (Within(Raw(delta.applied_offset), 0, kMaxCount)) return delta;
  return Corrupt("a forgotten user of " + std::to_string(bytes.size()) + " bytes, at offset " +
                 std::to_string(Raw(delta.applied_offset)));
}

void EncodeNewest(const UserState& user, size_t token_count, size_t event_id_count, std::string& bytes) {
  char* out = nullptr;
  if (user.IsForgotten()) {
    bytes.resize(kForgottenBytes);
    out = bytes.data();
    Write(out, kForgotten);
    Write(out, Raw(user.applied_offset()));
    return;
  }
  const std::span<const Token> tokens = user.tokens().last(token_count);
  const std::span<const EventIdHash> event_ids = user.recent_ids().newest().last(event_id_count);
  bytes.resize(kHeaderBytes + tokens.size() * kTokenBytes + event_ids.size() * kEventIdBytes);
  out = bytes.data();
  const Profile& profile = user.profile();
  Write(out, kFormat);
  Write(out, Raw(user.applied_offset()));
  Write(out, profile.events);
  Write(out, profile.first_time_ms);
  Write(out, profile.last_time_ms);
  Write(out, profile.sessions);
  Write(out, profile.session_start_ms);
  Write(out, profile.session_events);
  Write(out, static_cast<uint8_t>(event_ids.size()));
  for (const Token& token : tokens) {
    Write(out, Raw(token.item));
    Write(out, Raw(token.type));
    Write(out, token.time_ms);
  }
  for (const EventIdHash id : event_ids) Write(out, Raw(id));
}

// Appends the newest `most_bytes` of what `part` is in all of `deltas` together; how many bytes they are.
size_t AppendNewest(std::span<const Delta> deltas, std::string_view Delta::*part, size_t most_bytes,
                    std::string& bytes) {
  size_t total = 0;
  for (const Delta& delta : deltas) total += (delta.*part).size();
  const size_t kept = std::min(total, most_bytes);
  bytes.reserve(bytes.size() + kept);
  size_t excess = total - kept;
  for (const Delta& delta : deltas) {
    const size_t dropped = std::min(excess, (delta.*part).size());
    bytes += (delta.*part).substr(dropped);
    excess -= dropped;
  }
  return kept;
}

}  // namespace

size_t MaxUserBytes(size_t history) { return kHeaderBytes + history * kTokenBytes + RecentIds::kKept * kEventIdBytes; }

size_t Delta::token_count() const { return tokens.size() / kTokenBytes; }
size_t Delta::event_id_count() const { return event_ids.size() / kEventIdBytes; }

Result<Delta> DecodeDelta(std::string_view bytes) {
  if (bytes.starts_with(kForgotten)) return DecodeForgotten(bytes);
  RETURN_IF_ERROR(CheckFormat(bytes, kHeaderBytes));
  Delta delta;
  const char* in = bytes.data() + 1;
  delta.applied_offset = Offset{Read<int64_t>(in)};
  delta.profile.events = Read<int64_t>(in);
  delta.profile.first_time_ms = Read<int64_t>(in);
  delta.profile.last_time_ms = Read<int64_t>(in);
  delta.profile.sessions = Read<int64_t>(in);
  delta.profile.session_start_ms = Read<int64_t>(in);
  delta.profile.session_events = Read<int64_t>(in);
  const size_t event_ids = Read<uint8_t>(in);
  const std::string_view rest = bytes.substr(kHeaderBytes);
  if (event_ids > RecentIds::kKept || rest.size() < event_ids * kEventIdBytes ||
      (rest.size() - event_ids * kEventIdBytes) % kTokenBytes != 0) {
    return Corrupt("found " + std::to_string(bytes.size()) + " bytes, expected " + std::to_string(kHeaderBytes) +
                   ", a multiple of " + std::to_string(kTokenBytes) + ", and " + std::to_string(event_ids) +
                   " event ids (at most " + std::to_string(RecentIds::kKept) + ") of " + std::to_string(kEventIdBytes));
  }
  delta.tokens = rest.substr(0, rest.size() - event_ids * kEventIdBytes);
  delta.event_ids = rest.substr(delta.tokens.size());
  RETURN_IF_ERROR(CheckCounters(delta));
  return delta;
}

std::string MergeDeltas(std::span<const std::string_view> deltas, size_t history) {
  std::vector<Delta> decoded;
  decoded.reserve(deltas.size());
  for (const std::string_view bytes : deltas) {
    const Result<Delta> delta = DecodeDelta(bytes);
    if (!delta.ok()) return std::string(bytes);
    if (delta->forgotten()) decoded.clear();
    decoded.push_back(*delta);
  }
  if (decoded.back().forgotten()) return std::string(deltas.back());
  std::string merged(deltas.back().substr(0, kHeaderBytes));
  AppendNewest(decoded, &Delta::tokens, history * kTokenBytes, merged);
  const size_t event_ids =
      AppendNewest(decoded, &Delta::event_ids, RecentIds::kKept * kEventIdBytes, merged) / kEventIdBytes;
  merged[kHeaderBytes - 1] = static_cast<char>(event_ids);
  return merged;
}

std::string EncodePosition(Offset position) {
  std::string bytes(kPositionBytes, '\0');
  char* out = bytes.data();
  Write(out, kFormat);
  Write(out, Raw(position));
  return bytes;
}

Result<Offset> DecodePosition(std::string_view bytes) {
  RETURN_IF_ERROR(CheckFormat(bytes, kPositionBytes));
  if (bytes.size() != kPositionBytes) return Corrupt("a position of " + std::to_string(bytes.size()) + " bytes");
  const char* in = bytes.data() + 1;
  return Offset{Read<int64_t>(in)};
}

Status CheckAdvance(std::optional<Offset> from, Offset to) {
  if (!from || *from <= to) return {};
  return Error(ErrorCode::kInternal,
               "position " + std::to_string(Raw(to)) + " lies before the store's " + std::to_string(Raw(*from)));
}

void StateCodec::EncodeUnsaved(const UserState& user, std::string& bytes) {
  EncodeNewest(user, std::min(user.unsaved_, user.tokens().size()),
               std::min(user.unsaved_ids_, user.recent_ids().newest().size()), bytes);
}

void StateCodec::EncodeAll(const UserState& user, std::string& bytes) {
  EncodeNewest(user, user.tokens().size(), user.recent_ids().newest().size(), bytes);
}

Status StateCodec::Decode(std::string_view bytes, UserState& user) {
  ASSIGN_OR_RETURN(const Delta delta, DecodeDelta(bytes));
  user.applied_offset_ = delta.applied_offset;
  user.profile_ = delta.profile;
  const size_t count = std::min(delta.token_count(), user.history_);
  const char* in = delta.tokens.data() + (delta.token_count() - count) * kTokenBytes;
  user.tokens_.resize(count);
  for (Token& token : user.tokens_) {
    token.item = ItemHash{Read<uint64_t>(in)};
    token.type = TypeHash{Read<uint32_t>(in)};
    token.time_ms = Read<int64_t>(in);
  }
  for (size_t i = 0; i < delta.event_id_count(); ++i) user.recent_ids_.Add(EventIdHash{Read<uint64_t>(in)});
  return {};
}

}  // namespace freshet
