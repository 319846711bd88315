// A model of somebody else's SASRec: from the tensors of a PyTorch checkpoint in the layout of pmixer/SASRec.pytorch or
// of asash/gSASRec-pytorch. What each layout becomes: docs/models.md, "Import".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "inference/checkpoint.h"
#include "inference/model.h"

namespace freshet {

// What a checkpoint does not say itself.
struct SasrecImport {
  int heads = 0;
  std::vector<std::string> items;  // ids of rows 1, 2, ..
  std::optional<Norm> norm;        // of pmixer's layout with positions from 1, which came in all three forms
  bool relu = true;                // false for code from before the activation was put in
  std::optional<int> window;       // W, where fewer positions are used than the checkpoint has; absent: all
};

// Errors name the tensor that is missing, of another shape, or of neither layout; or the option that does not fit.
Result<std::unique_ptr<const Model>> ImportSasrec(std::vector<CheckpointTensor> tensors, const SasrecImport& import);

}  // namespace freshet
