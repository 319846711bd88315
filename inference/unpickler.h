// The pickle of a state_dict, read without running it: see inference/checkpoint.h.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace freshet {

enum class StorageType { kFloat, kDouble, kHalf, kBFloat16 };

// A tensor as the pickle describes it; its bytes are elsewhere. Its texts are the pickle's own bytes, which outlive it.
struct PickledTensor {
  std::string_view name;
  StorageType storage_type = StorageType::kFloat;
  std::string_view storage;  // file "data/{storage}" of the archive
  int64_t offset = 0;        // elements
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
};

// In the order of the state_dict, names of up to 1000 bytes, each once. Shapes and strides have up to 8 sizes, none
// below 0, not necessarily as many of either, nor within any storage. Errors say what else the pickle has, asks for or
// lacks.
Result<std::vector<PickledTensor>> UnpickleStateDict(std::string_view pickle);

}  // namespace freshet
