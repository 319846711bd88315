#include "pipeline/serving_model.h"

#include <utility>

namespace freshet {

Result<ServingModel> ServingModel::Load(const std::filesystem::path& directory) {
  ServingModel serving;
  ASSIGN_OR_RETURN(serving.model, LoadModel(directory));
  ASSIGN_OR_RETURN(serving.engine, Engine::Make(*serving.model));
  ASSIGN_OR_RETURN(serving.ranker, Ranker::Make(*serving.model));
  serving.encoder = std::make_unique<const RecommendationEncoder>(serving.model->name, serving.model->version,
                                                                  serving.model->vocabulary.item_ids());
  return serving;
}

}  // namespace freshet
