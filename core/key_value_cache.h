// Cached keys and values of a user's last W tokens: what makes an attention step incremental.
//
// The engine (inference/) gives the content its meaning; the store (state/) only holds it, counts its bytes and drops
// it. It is a cache of the tokens: `model` names what computed it, and another model's is worthless. Memory
// grows in blocks of kRowsPerBlock rows, so that a user of three events does not pay for a window of 200.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/ids.h"

namespace freshet {

struct AlignedFree {
  void operator()(void* memory) const;
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedFree>;
using AlignedFloats = std::unique_ptr<float[], AlignedFree>;

// `count` zeroed bytes, or floats, on a cache-line boundary.
AlignedBytes AllocateAlignedBytes(size_t count);
AlignedFloats AllocateAligned(size_t count);
// What they take beyond that, the heap's own header included.
inline constexpr size_t kAlignedExtraBytes = 64 + 16;

struct KeyValueCache {
  // Rows in a block: one cache line of fp32, so that keys can be stored transposed within a block. What a block looks
  // like is inference/cached_rows.h.
  static constexpr int kRowsPerBlock = 16;

  ModelTag model{};             // weights and precision that made the rows, Engine::cache_tag(); 0 while empty
  int64_t events = 0;           // events taken in, since the cache began; event n lives in slot n mod W
  int64_t sequence_number = 0;  // of the user's event that was taken in last; kept by whoever feeds the engine
  size_t block_bytes = 0;       // size of each block, set by the engine
  std::vector<AlignedBytes> blocks;
  std::vector<int64_t> times_s;  // [min(events, W)] event time of each slot
  std::vector<ItemRow> items;    // [min(events, W)] item of each slot, of a model that recomputes; it has no other rows
  std::vector<float> user_vector;  // [dim] the newest event's normalised output; empty until it was asked for

  size_t Bytes() const {
    return blocks.size() * block_bytes + times_s.capacity() * sizeof(int64_t) + items.capacity() * sizeof(ItemRow) +
           user_vector.capacity() * sizeof(float);
  }
  // Empty, with its memory given back.
  void Clear() { *this = KeyValueCache(); }
};

}  // namespace freshet
