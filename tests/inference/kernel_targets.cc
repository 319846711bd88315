// FRESHET_TEST_KERNELS=avx2 or sse4: the highest instruction set that the kernels under test may use, so that one
// machine tests what others run. Linked into the tests of inference/; says at the start what it chose.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "inference/kernels.h"

namespace freshet {
namespace {

class KernelTargets : public testing::Environment {
 public:
  void SetUp() override {
    const char* const wanted = std::getenv("FRESHET_TEST_KERNELS");
    if (wanted != nullptr) {
      constexpr int64_t kAboveSse4 = HWY_SSE4 - 1;  // in Highway a better target has a lower bit
      constexpr int64_t kAboveAvx2 = HWY_AVX2 - 1;
      hwy::DisableTargets(std::string_view(wanted) == "avx2" ? kAboveAvx2 : kAboveSse4);
      hwy::GetChosenTarget().DeInit();
    }
    std::cout << "kernels: " << KernelTarget() << std::endl;
  }
};

const testing::Environment* const kTargets = testing::AddGlobalTestEnvironment(new KernelTargets);

}  // namespace
}  // namespace freshet
