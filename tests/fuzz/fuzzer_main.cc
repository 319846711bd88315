// The libFuzzer program of the target FRESHET_FUZZ_TARGET. Every run begins with the target's own seeds.
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/fuzz_targets.h"

namespace {

const freshet::FuzzTarget& Target() {
  for (const freshet::FuzzTarget& target : freshet::FuzzTargets()) {
    if (target.name == FRESHET_FUZZ_TARGET) return target;
  }
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const freshet::FuzzTarget& target = []() -> const freshet::FuzzTarget& {
    for (const std::string_view seed : Target().seeds) Target().run(seed);
    return Target();
  }();
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
