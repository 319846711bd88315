// An evaluation as a table for people, and as JSON for programs (docs/evaluation.md).
#pragma once

#include <optional>
#include <string>

#include "pipeline/evaluation/evaluation.h"

namespace freshet {

// What a report says beside the figures.
struct ReportFacts {
  std::string protocol;  // "leave-one-out" or "prequential"
  std::optional<int64_t> from_ms;
  const EvaluationPlan* plan = nullptr;
  std::vector<const ServingModel*> models;
  EvaluationOptions options;
};

std::string ReportTable(const ReportFacts& facts, const Evaluation& evaluation);
std::string ReportJson(const ReportFacts& facts, const Evaluation& evaluation);

}  // namespace freshet
