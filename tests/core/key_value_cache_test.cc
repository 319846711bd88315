#include "core/key_value_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace freshet {
namespace {

TEST(AllocateAligned, GivesZeroedFloatsOnALine) {
  for (size_t count = 1; count < 5000; count = count * 3 / 2 + 1) {
    const AlignedFloats floats = AllocateAligned(count);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(floats.get()) % 64, 0u);
    EXPECT_TRUE(std::all_of(floats.get(), floats.get() + count, [](float value) { return value == 0; }));
    std::fill(floats.get(), floats.get() + count, 1.0f);  // so that a piece used again would show
  }
}

// What keeps a cache that evicts from growing. Sanitizers hold freed memory back on purpose.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(AllocateAligned, BlocksOfASizeTakeEachOthersPlaces) {
  constexpr size_t kFloats = 8192;
  std::vector<AlignedFloats> blocks;
  std::vector<std::vector<char>> between;  // keeps freed pieces from growing together
  for (int i = 0; i < 200; ++i) {
    blocks.push_back(AllocateAligned(kFloats));
    between.emplace_back(100);
  }
  std::set<float*> places;
  for (const AlignedFloats& block : blocks) places.insert(block.get());
  for (size_t i = 0; i < blocks.size(); i += 2) blocks[i].reset();
  for (size_t i = 0; i < blocks.size(); i += 2) blocks[i] = AllocateAligned(kFloats);
  for (const AlignedFloats& block : blocks) EXPECT_TRUE(places.contains(block.get()));
}
#endif

}  // namespace
}  // namespace freshet
