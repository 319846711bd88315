#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "tests/support/seed.h"

namespace freshet {

uint64_t TestSeed() {
  const char* const text = std::getenv("FRESHET_TEST_SEED");
  return text == nullptr ? 20260101 : std::strtoull(text, nullptr, 10);
}

}  // namespace freshet

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::cout << "FRESHET_TEST_SEED=" << freshet::TestSeed() << std::endl;
  return RUN_ALL_TESTS();
}
