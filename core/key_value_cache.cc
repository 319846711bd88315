#include "core/key_value_cache.h"

#include <cstring>
#include <new>

namespace freshet {

AlignedFloats AllocateAligned(size_t count) {
  constexpr size_t kLine = 64;
  const size_t bytes = (count * sizeof(float) + kLine - 1) / kLine * kLine;
  void* const memory = std::aligned_alloc(kLine, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, bytes);
  return AlignedFloats(static_cast<float*>(memory));
}

}  // namespace freshet
