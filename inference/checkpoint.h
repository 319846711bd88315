// The tensors in what torch.save(model.state_dict(), path) writes: a zip file, stored without compression, of a pickle
// and the bytes of each tensor.
//
// A pickle is a program. This reader knows the instructions and the four kinds of name that a state_dict's pickle has,
// makes strings, numbers and tensors of them and nothing else, and refuses everything more by its name: it never runs
// anything. Memory stays in proportion to the file's size, at the worst, of what no state_dict has, over 100 times it
// (4 MB of empty tuples: 530 MB).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace freshet {

struct CheckpointTensor {
  std::string name;
  std::vector<size_t> shape;
  std::vector<float> values;  // row-major; from 16, 32 or 64 bits
};

// In the order of the state_dict. Errors name the file: it is no zip file or a damaged one; it holds more than a
// state_dict (the name that a pickle asks for, or the entry, is named); an entry is repeated; a tensor's bytes are too
// few, or not in order; a number is not finite.
Result<std::vector<CheckpointTensor>> ReadCheckpoint(const std::filesystem::path& path);

// The same of a file's content; errors name no file.
Result<std::vector<CheckpointTensor>> ParseCheckpoint(std::string_view file);

}  // namespace freshet
