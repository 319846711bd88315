// Numbers as JSON text at `out`, which has kMaxNumberBytes of room; each returns the end of the text, behind which
// bytes of the room may be overwritten.
#pragma once

#include <cstddef>
#include <cstdint>

namespace freshet {

inline constexpr size_t kMaxNumberBytes = 24;

char* WriteInteger(int64_t value, char* out);

// With the fewest significant digits that give the same float back; a decimal right between two floats is not used.
// What is not finite becomes null.
char* WriteFloat(float value, char* out);

}  // namespace freshet
