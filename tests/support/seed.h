// The seed of a random test: FRESHET_TEST_SEED, or a fixed one. The test program prints it at its start.
#pragma once

#include <cstdint>

namespace freshet {

uint64_t TestSeed();

}  // namespace freshet
