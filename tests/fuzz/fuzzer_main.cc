// The libFuzzer program. The environment's FRESHET_FUZZ_TARGET names the target; every run begins with its seeds.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/fuzz/fuzz_targets.h"

namespace {

freshet::FuzzTarget Start() {
  const char* const name = std::getenv("FRESHET_FUZZ_TARGET");
  for (const freshet::FuzzTarget& target : freshet::FuzzTargets()) {
    if (name == nullptr || target.name != name) continue;
    for (const std::string_view seed : target.seeds) target.run(seed);
    return target;
  }
  std::fputs("FRESHET_FUZZ_TARGET: expected one of", stderr);
  for (const freshet::FuzzTarget& target : freshet::FuzzTargets()) {
    std::fprintf(stderr, " %.*s", static_cast<int>(target.name.size()), target.name.data());
  }
  std::fputs("\n", stderr);
  std::_Exit(2);  // libFuzzer would take exit() for a crash
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const freshet::FuzzTarget target = Start();
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
