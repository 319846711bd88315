#include "core/key_value_cache.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace freshet {
namespace {

constexpr size_t kLine = 64;

// Not std::aligned_alloc(): glibc takes a larger piece for it and gives the ends back, so that a freed block is too
// small for the next one of its size, and a cache that evicts grows to half as much again. Here equal sizes ask for
// equal pieces; the piece's own address stands right below the memory.
void* Allocate(size_t count) {
  const size_t bytes = (count + kLine - 1) / kLine * kLine;
  char* const piece = static_cast<char*>(std::malloc(bytes + kLine));
  if (piece == nullptr) throw std::bad_alloc();
  char* const memory = piece + kLine - reinterpret_cast<uintptr_t>(piece) % kLine;
  std::memcpy(memory - sizeof(piece), &piece, sizeof(piece));
  return std::memset(memory, 0, bytes);
}

}  // namespace

AlignedBytes AllocateAlignedBytes(size_t count) { return AlignedBytes(static_cast<std::byte*>(Allocate(count))); }

AlignedFloats AllocateAligned(size_t count) {
  return AlignedFloats(static_cast<float*>(Allocate(count * sizeof(float))));
}

void AlignedFree::operator()(void* memory) const {
  char* piece;
  std::memcpy(&piece, static_cast<char*>(memory) - sizeof(piece), sizeof(piece));
  std::free(piece);
}

}  // namespace freshet
