#include "core/hash.h"

#include <xxhash.h>

namespace freshet {

uint64_t StableHash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace freshet
