// The wall clock, for generated_at and nothing else: no state depends on it.
#pragma once

#include <chrono>
#include <cstdint>

namespace freshet {

inline int64_t WallClockMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace freshet
