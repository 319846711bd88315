#include "pipeline/user_json.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

namespace freshet {

nlohmann::ordered_json DescribeUser(const UserState& user, PartitionId partition, const Model* model) {
  const Profile& profile = user.profile();
  nlohmann::ordered_json tokens = nlohmann::ordered_json::array();
  for (const Token& token : user.tokens()) {
    char hash[20];
    std::snprintf(hash, sizeof(hash), "%016llx", static_cast<unsigned long long>(Raw(token.item)));
    nlohmann::ordered_json entry = {{"item_hash", hash}, {"timestamp", token.time_ms}};
    if (model != nullptr) {
      const Vocabulary& vocabulary = model->vocabulary;
      entry["item_id"] = vocabulary.item_ids()[Raw(vocabulary.RowOf(token.item))];
      entry["event_type"] = vocabulary.type_names()[Raw(vocabulary.RowOf(token.type))];
    }
    tokens.push_back(std::move(entry));
  }
  return {{"user_id", user.user_id()},
          {"sequence_number", profile.events},
          {"partition", Raw(partition)},
          {"applied_offset", Raw(user.applied_offset())},
          {"profile",
           {{"events", profile.events},
            {"first_time", profile.first_time_ms},
            {"last_time", profile.last_time_ms},
            {"sessions", profile.sessions},
            {"session_start", profile.session_start_ms},
            {"session_events", profile.session_events}}},
          {"tokens", std::move(tokens)}};
}

}  // namespace freshet
