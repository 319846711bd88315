#include <xxhash.h>

#include <cinttypes>
#include <cstdio>

#include "state/store.h"

namespace freshet {
namespace {

void Put(std::string& bytes, uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(value >> shift));
}

std::string CanonicalBytes(const UserState& user) {
  const Profile& profile = user.profile();
  std::string bytes;
  Put(bytes, user.user_id().size());
  bytes += user.user_id();
  for (const int64_t value : {profile.events, profile.first_time_ms, profile.last_time_ms, profile.sessions,
                              profile.session_start_ms, profile.session_events}) {
    Put(bytes, static_cast<uint64_t>(value));
  }
  Put(bytes, user.tokens().size());
  for (const Token& token : user.tokens()) {
    Put(bytes, Raw(token.item));
    Put(bytes, Raw(token.type));
    Put(bytes, static_cast<uint64_t>(token.time_ms));
  }
  for (const EventIdHash id : user.recent_ids().newest()) Put(bytes, Raw(id));
  return bytes;
}

}  // namespace

void StateDigest::Add(const UserState& user) {
  const std::string bytes = CanonicalBytes(user);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  sum_[0] += hash.low64;
  sum_[1] += hash.high64;
}

std::string StateDigest::Hex() const {
  char text[33];
  std::snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, sum_[1], sum_[0]);
  return text;
}

}  // namespace freshet
