// A bounded run of every fuzz target: its seeds, and mutations of them.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// One to eight random edits: a byte changed, taken out, put in, a piece doubled, cut off, or taken from another seed.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string Mutate(std::span<const std::string_view> seeds) {
    std::string text(seeds[Below(seeds.size())]);
    for (size_t edits = 1 + Below(8); edits > 0; --edits) Edit(text, seeds[Below(seeds.size())]);
    return text;
  }

 private:
  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }

  char Byte() {
    constexpr std::string_view kTelling("\0\n\r\t\"\\{}[],:.-+eE0189\x7f\x80\xc3\xed\xf0\xff", 28);
    return Below(2) == 0 ? kTelling[Below(kTelling.size())] : static_cast<char>(random_());
  }

  void Edit(std::string& text, std::string_view other) {
    const size_t at = Below(text.size());
    switch (Below(6)) {
      case 0:
        if (!text.empty()) text[at] = Byte();
        break;
      case 1:
        text.erase(at, 1 + Below(8));
        break;
      case 2:
        text.insert(at, 1 + Below(3), Byte());
        break;
      case 3:
        text.insert(at, text.substr(at, Below(32)));
        break;
      case 4:
        text.resize(at);
        break;
      default:
        text.insert(at, other.substr(Below(other.size()), Below(32)));
    }
  }

  std::mt19937_64 random_;
};

class Fuzz : public testing::TestWithParam<FuzzTarget> {};

TEST_P(Fuzz, SeedsAndTheirMutations) {
  const FuzzTarget& target = GetParam();
  for (const std::string_view seed : target.seeds) target.run(seed);
  Mutator mutator(TestSeed());
  for (int i = 0; i < 20'000; ++i) {
    const std::string bytes = mutator.Mutate(target.seeds);
    SCOPED_TRACE(i);
    target.run(bytes);
  }
}

std::string TargetName(const testing::TestParamInfo<FuzzTarget>& target) { return std::string(target.param.name); }

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz, testing::ValuesIn(FuzzTargets()), TargetName);

}  // namespace
}  // namespace freshet
