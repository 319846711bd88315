#include "core/key_value_cache.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace freshet {
namespace {

constexpr size_t kLine = 64;

}  // namespace

// Not std::aligned_alloc(): glibc takes a larger piece for it and gives the ends back, so that a freed block is too
// small for the next one of its size, and a cache that evicts grows to half as much again. Here equal sizes ask for
// equal pieces; the piece's own address stands right below the floats.
AlignedFloats AllocateAligned(size_t count) {
  const size_t bytes = (count * sizeof(float) + kLine - 1) / kLine * kLine;
  char* const piece = static_cast<char*>(std::malloc(bytes + kLine));
  if (piece == nullptr) throw std::bad_alloc();
  char* const floats = piece + kLine - reinterpret_cast<uintptr_t>(piece) % kLine;
  std::memcpy(floats - sizeof(piece), &piece, sizeof(piece));
  std::memset(floats, 0, bytes);
  return AlignedFloats(reinterpret_cast<float*>(floats));
}

void AlignedFree::operator()(float* floats) const {
  char* piece;
  std::memcpy(&piece, reinterpret_cast<char*>(floats) - sizeof(piece), sizeof(piece));
  std::free(piece);
}

}  // namespace freshet
