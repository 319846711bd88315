// A user's state as JSON, for `freshet state get` and GET /v1/users/{user}.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/ids.h"
#include "inference/model.h"
#include "state/user_state.h"

namespace freshet {

// Position, profile, and the kept tokens, oldest first. State holds hashes of items and types; `model` gives them back
// their names, "[unknown]" where it has none; null: hashes only.
nlohmann::ordered_json DescribeUser(const UserState& user, PartitionId partition, const Model* model);

}  // namespace freshet
