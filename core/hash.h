// Stable hashes of external ids (XXH3, 64 bit). They are written to disk: changing them needs a new state format.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/ids.h"

namespace freshet {

uint64_t StableHash(std::string_view bytes);

inline ItemHash HashItem(std::string_view id) { return ItemHash{StableHash(id)}; }
inline TypeHash HashType(std::string_view name) { return TypeHash{static_cast<uint32_t>(StableHash(name))}; }
inline EventIdHash HashEventId(std::string_view id) { return id.empty() ? kNoEventId : EventIdHash{StableHash(id)}; }

}  // namespace freshet
