// The pickle of a state_dict, read without running it: see inference/checkpoint.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace freshet {

// A tensor as the pickle describes it; its bytes are elsewhere.
struct PickledTensor {
  std::string name;
  std::string storage_type;  // "FloatStorage"
  std::string storage;       // file "data/{storage}" of the archive
  int64_t offset = 0;        // elements
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
};

Result<std::vector<PickledTensor>> UnpickleStateDict(std::string_view pickle);

}  // namespace freshet
