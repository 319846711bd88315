// Answers outside the stream: to queries, and at the end of a replay.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/clock.h"
#include "core/hash.h"
#include "ingest/encoder.h"
#include "pipeline/pipeline_parts.h"
#include "pipeline/user_json.h"

namespace freshet {

// Makes the users' vectors and rows those of their whole sequences and the current model. REQUIRES: each has an event.
void Pipeline::BringUpToDate(std::span<UserState* const> users) {
  Buffers& b = *buffers_;
  const auto dim = static_cast<size_t>(serving_->model->config.dim);
  b.rows.clear();
  b.user_vectors.resize(users.size() * dim);
  for (size_t i = 0; i < users.size(); ++i) {
    KeyValueCache& cache = users[i]->key_values();
    const bool current =
        cache.model == serving_->engine->cache_tag() && cache.sequence_number == users[i]->profile().events;
    if (current && cache.user_vector.size() == dim) continue;
    cache.Clear();  // keys/values alone do not give the newest output
    ScheduleMissing(*users[i]);
    b.rows.back().user_vector = &b.user_vectors[i * dim];
  }
  serving_->engine->Step(b.rows, *engine_scratch_);
  for (size_t i = 0; i < users.size(); ++i) {
    std::vector<float>& kept = users[i]->key_values().user_vector;
    if (kept.empty()) kept.assign(&b.user_vectors[i * dim], &b.user_vectors[i * dim] + dim);
    ScheduleMissing(*users[i]);  // rows of the current model, for the exclusions
  }
}

// Answers for users as they are, outside the stream: one string each. REQUIRES: each has an event.
void Pipeline::AnswerFromState(PartitionId partition, std::span<UserState* const> users, int top_k,
                               const RecommendationEncoder& encoder, std::vector<std::string>& answers) {
  Buffers& b = *buffers_;
  const auto k = static_cast<size_t>(top_k);
  BringUpToDate(users);
  b.top.resize(users.size() * k);
  b.requests.clear();
  for (size_t i = 0; i < users.size(); ++i) {
    const std::span<const ItemRow> excluded =
        options_.exclude_seen ? users[i]->item_rows() : std::span<const ItemRow>();
    b.requests.push_back({users[i]->key_values().user_vector.data(), excluded, {&b.top[i * k], k}});
  }
  serving_->ranker->TopK(b.requests, *ranker_scratch_);
  for (size_t i = 0; i < users.size(); ++i) {
    EncodeFromState(partition, *users[i], b.requests[i].top.first(b.requests[i].found), encoder,
                    answers.emplace_back());
  }
}

// The items that the model knows, best first and each once, and behind them the others' names.
std::string Pipeline::RankItems(PartitionId partition, UserState& user, std::span<const std::string> items) {
  UserState* const one = &user;
  BringUpToDate(std::span(&one, 1));
  std::vector<ItemRow> rows;
  std::string unknown;
  for (const std::string& item : items) {
    const ItemRow row = serving_->model->vocabulary.RowOf(HashItem(item));
    if (row != kUnknownItem) {
      rows.push_back(row);
      continue;
    }
    unknown += unknown.empty() ? "\"" : ",\"";
    AppendJsonEscaped(item, unknown);
    unknown += '"';
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  std::vector<float> scores(rows.size());
  serving_->ranker->Score(user.key_values().user_vector.data(), rows, scores.data());
  std::vector<ScoredItem> ranked;
  for (size_t i = 0; i < rows.size(); ++i) ranked.push_back({rows[i], scores[i]});
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const ScoredItem& left, const ScoredItem& right) { return left.score > right.score; });
  std::string answer;
  EncodeFromState(partition, user, ranked, *serving_->json, answer);
  answer.pop_back();  // the object's end
  return answer + ",\"unknown_items\":[" + unknown + "]}";
}

// Appends the recommendation of `items` to a user whose vector is up to date.
void Pipeline::EncodeFromState(PartitionId partition, const UserState& user, std::span<const ScoredItem> items,
                               const RecommendationEncoder& encoder, std::string& answer) const {
  const Origin origin = options_.origin(partition, user.applied_offset());
  Recommendation recommendation;
  recommendation.user_id = user.user_id();
  recommendation.generated_at_ms = WallClockMs();
  recommendation.sequence_number = user.profile().events;
  recommendation.topic = origin.topic;
  recommendation.partition = origin.partition;
  recommendation.offset = origin.offset;
  recommendation.event_time_ms = user.profile().last_time_ms;
  recommendation.items = items;
  if (options_.include_user_vector) recommendation.user_vector = user.key_values().user_vector;
  encoder.Encode(recommendation, answer);
}

LiveAnswer Pipeline::Answer(const LiveQuery& query) {
  for (auto& [id, partition] : partitions_) {
    ASSIGN_OR_RETURN(UserState* const user, partition->store->Find(query.user_id));
    if (user == nullptr || user->profile().events == 0) continue;
    switch (query.kind) {
      case LiveQuery::Kind::kRank:
        return std::optional(RankItems(id, *user, query.items));
      case LiveQuery::Kind::kShow:
        return std::optional(DescribeUser(*user, id, serving_->model.get())
                                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      case LiveQuery::Kind::kRecommend:
        break;
    }
    std::vector<std::string> answers;
    AnswerFromState(id, std::span<UserState* const>(&user, 1), query.k, *serving_->json, answers);
    return std::optional(std::move(answers[0]));
  }
  return std::optional<std::string>();
}

Result<PollState> Pipeline::EmitFinal() {
  finished_ = false;
  for (auto partition = partitions_.lower_bound(final_.partition); partition != partitions_.end(); ++partition) {
    if (partition->first != final_.partition) final_ = {partition->first, std::nullopt};
    ASSIGN_OR_RETURN(const bool more, EmitFinal(*partition->second));
    if (more) return PollState::kMore;
  }
  finished_ = true;
  return PollState::kEnd;
}

// For the users behind the last one. False: there is none.
Result<bool> Pipeline::EmitFinal(Partition& partition) {
  std::vector<std::string> ids;
  const auto take = [&](const UserState& user) {
    ids.push_back(user.user_id());
    return ids.size() < options_.max_batch;
  };
  RETURN_IF_ERROR(partition.store->ForEach(take, final_.user));
  if (ids.empty()) return false;
  final_.user = ids.back();
  const std::vector<std::string_view> views(ids.begin(), ids.end());
  ASSIGN_OR_RETURN(const std::span<UserState* const> users, partition.store->Load(views));
  std::vector<std::string> answers;
  AnswerFromState(partition.id, users, options_.top_k, serving_->records(), answers);
  std::vector<OutputRecord>& outputs = buffers_->outputs;
  outputs.clear();
  for (size_t i = 0; i < answers.size(); ++i) outputs.push_back({Stream::kRecommendations, views[i], answers[i], {}});
  RETURN_IF_ERROR(sink_.Publish(outputs));
  counts_.recommendations += std::ssize(answers);
  const PartitionPosition position{partition.id, std::max(partition.next, partition.emit_from)};
  RETURN_IF_ERROR(sink_.Commit(std::span(&position, 1)));
  return true;
}

}  // namespace freshet
