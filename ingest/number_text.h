// Numbers as JSON text, appended at `out`; each returns the end of what it wrote.
#pragma once

#include <cstddef>
#include <cstdint>

namespace freshet {

inline constexpr size_t kMaxNumberBytes = 24;

char* WriteInteger(int64_t value, char* out);

// With the fewest significant digits that give the same float back. REQUIRES: finite.
char* WriteFloat(float value, char* out);

}  // namespace freshet
