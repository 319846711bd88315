#include "core/arena.h"

#include <gtest/gtest.h>

#include <string>

namespace freshet {
namespace {

TEST(Arena, ViewsStayValidWhileItGrows) {
  Arena arena;
  std::vector<std::pair<std::string, std::string_view>> kept;
  for (int i = 0; i < 5000; ++i) {
    std::string text(static_cast<size_t>(i % 977), static_cast<char>('a' + i % 26));
    const std::string_view view = arena.Copy(text);
    kept.emplace_back(std::move(text), view);
  }
  for (const auto& [expected, view] : kept) EXPECT_EQ(expected, view);
}

TEST(Arena, ReusesMemoryAfterReset) {
  Arena arena;
  const char* const first = arena.Allocate(100);
  arena.Reset();
  EXPECT_EQ(arena.Allocate(100), first);
}

TEST(Arena, TakesARecordLargerThanAChunkAndGivesItBack) {
  Arena arena;
  const std::string huge(3 << 20, 'x');
  EXPECT_EQ(arena.Copy(huge), huge);
  arena.Reset();
  EXPECT_EQ(arena.Copy("small"), "small");
}

}  // namespace
}  // namespace freshet
