#include "inference/time_bucket.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "inference/engine.h"

namespace freshet {

// clang-format off
// [b] = ceil(exp(0.301 b)), [0] = 0; computed with 80 digits.
const std::array<int64_t, 129> kTimeThresholds = {
    0, 2, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 38, 51, 68, 92, 124, 167, 226, 305, 412, 557, 752, 1016, 1372, 1854, 2505,
    3385, 4574, 6180, 8350, 11283, 15245, 20600, 27834, 37610, 50818, 68666, 92782, 125367, 169397, 228891, 309280,
    417902, 564672, 762990, 1030960, 1393042, 1882291, 2543369, 3436624, 4643598, 6274473, 8478127, 11455724, 15479081,
    20915478, 28261189, 38186783, 51598337, 69720155, 94206525, 127292737, 171999135, 232406837, 314030289, 424320660,
    573346040, 774710524, 1046796097, 1414440665, 1911205440, 2582438644, 3489415219, 4714930440, 6370858056,
    8608362918, 11631700390, 15716862225, 21236771058, 28695323438, 38773389087, 52390965538, 70791162047, 95653679456,
    129248145233, 174641301215, 235976957620, 318854269524, 430838867570, 582153502558, 786611250865, 1062876470327,
    1436168615607, 1940564449431, 2622108811928, 3543017921206, 4787358912370, 6468724083690, 8740600409714,
    11810380924256, 15958297031977, 21563000024645, 29136127064885, 39369007066311, 53195770115076, 71878621509799,
    97123064840915, 131233592491847, 177324056098577, 239601921079808, 323752354013490, 437457205087951,
    591096262037950, 798694791013881, 1079203862655709, 1458230340644303, 1970374458392745, 2662388374508185,
    3597444042437672, 4860899995802064, 6568093482609850, 8874869269797386, 11991806262278896, 16203440643505319,
    21894240362561142, 29583702103771285, 39973774639893605, 54012937709959665
};
// clang-format on

int TimeBucket(int64_t delta_s) {
  const uint64_t distance = delta_s < 0 ? uint64_t{0} - static_cast<uint64_t>(delta_s) : static_cast<uint64_t>(delta_s);
  const auto above =
      std::upper_bound(kTimeThresholds.begin(), kTimeThresholds.end(), distance,
                       [](uint64_t value, int64_t bound) { return value < static_cast<uint64_t>(bound); });
  return static_cast<int>(above - kTimeThresholds.begin()) - 1;
}

namespace {

BucketTable MakeTable() {
  BucketTable table;
  for (int bin = 0; bin < BucketTable::kBins; ++bin) {
    const uint32_t bits = static_cast<uint32_t>(bin + BucketTable::kFirstBin) << BucketTable::kShift;
    int64_t least = static_cast<int64_t>(std::ceil(std::bit_cast<float>(bits)));
    // From 2^24 on a distance may have been rounded up into this bin.
    if (least >= 1 << 24) least -= least >> 24;
    const size_t candidate = static_cast<size_t>(TimeBucket(least));
    const size_t b = static_cast<size_t>(bin);
    table.candidate[b] = static_cast<int32_t>(candidate);
    table.next_threshold[b] =
        static_cast<int32_t>(std::min(kTimeThresholds[candidate + 1], static_cast<int64_t>(BucketTable::kCap)));
  }
  return table;
}

}  // namespace

const BucketTable& BucketTable::Get() {
  static const BucketTable table = MakeTable();
  return table;
}

}  // namespace freshet
