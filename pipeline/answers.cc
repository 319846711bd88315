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
    const Origin origin = options_.origin(partition, users[i]->applied_offset());
    Recommendation recommendation = FromState(origin, *users[i]);
    recommendation.items = b.requests[i].top.first(b.requests[i].found);
    encoder.Encode(recommendation, answers.emplace_back());
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
  const Origin origin = options_.origin(partition, user.applied_offset());
  Recommendation recommendation = FromState(origin, user);
  recommendation.items = ranked;
  std::string answer;
  serving_->json->Encode(recommendation, answer);
  answer.pop_back();  // the object's end
  return answer + ",\"unknown_items\":[" + unknown + "]}";
}

// All but the items. It views both. REQUIRES: the user is up to date.
Recommendation Pipeline::FromState(const Origin& origin, const UserState& user) const {
  Recommendation recommendation;
  recommendation.user_id = user.user_id();
  recommendation.generated_at_ms = WallClockMs();
  recommendation.sequence_number = user.profile().events;
  recommendation.topic = origin.topic;
  recommendation.partition = origin.partition;
  recommendation.offset = origin.offset;
  recommendation.event_time_ms = user.profile().last_time_ms;
  if (options_.include_user_vector) recommendation.user_vector = user.key_values().user_vector;
  return recommendation;
}

struct Pipeline::Found {
  PartitionId partition;
  UserState* user = nullptr;  // null: not here
};

Result<Pipeline::Found> Pipeline::Find(const std::string& user_id) {
  // Mostly it ends here: to look for a user on disk costs more than the rest.
  for (auto& [id, partition] : partitions_) {
    UserState* const user = partition->store->FindHot(user_id);
    if (user != nullptr && user->profile().events > 0) return Found{id, user};
  }
  for (auto& [id, partition] : partitions_) {
    ASSIGN_OR_RETURN(UserState* const user, partition->store->Find(user_id));
    if (user != nullptr && user->profile().events > 0) return Found{id, user};
  }
  return Found();
}

// A recommendation that a query asks for. It holds what it needs of the user, who may go from memory for the next
// one's.
struct Pipeline::Asked {
  size_t answer = 0;  // its place among the answers
  Origin origin;
  Recommendation recommendation;
  std::vector<float> user_vector;
  std::vector<ItemRow> excluded;
  std::vector<ScoredItem> top;
};

Pipeline::Asked Pipeline::Ask(const LiveQuery& query, PartitionId partition, UserState& user) {
  UserState* const one = &user;
  BringUpToDate(std::span(&one, 1));
  Asked asked;
  asked.user_vector = user.key_values().user_vector;
  if (options_.exclude_seen) asked.excluded.assign(user.item_rows().begin(), user.item_rows().end());
  asked.top.resize(static_cast<size_t>(query.k));
  asked.origin = options_.origin(partition, user.applied_offset());
  asked.recommendation = FromState(asked.origin, user);
  return asked;
}

std::vector<LiveAnswer> Pipeline::Answer(std::span<const LiveQuery* const> queries) {
  std::vector<LiveAnswer> answers;
  std::vector<Asked> asked;  // ranked together: the catalogue is read once
  for (const LiveQuery* const query : queries) {
    const Result<Found> found = Find(query->user_id);
    if (!found.ok()) {
      answers.emplace_back(found.error());
    } else if (found->user == nullptr) {
      answers.emplace_back(std::nullopt);
    } else if (query->kind == LiveQuery::Kind::kRank) {
      answers.emplace_back(RankItems(found->partition, *found->user, query->items));
    } else if (query->kind == LiveQuery::Kind::kShow) {
      answers.emplace_back(DescribeUser(*found->user, found->partition, serving_->model.get())
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else {
      asked.push_back(Ask(*query, found->partition, *found->user));
      asked.back().answer = answers.size();
      answers.emplace_back(std::string());
    }
  }
  std::vector<RankRequest> requests;
  for (Asked& one : asked) requests.push_back({one.user_vector.data(), one.excluded, one.top});
  serving_->ranker->TopK(requests, *ranker_scratch_);
  for (size_t i = 0; i < asked.size(); ++i) {
    Recommendation& recommendation = asked[i].recommendation;
    // What it viewed may be gone.
    recommendation.user_id = queries[asked[i].answer]->user_id;
    recommendation.topic = asked[i].origin.topic;
    if (options_.include_user_vector) recommendation.user_vector = asked[i].user_vector;
    recommendation.items = requests[i].top.first(requests[i].found);
    serving_->json->Encode(recommendation, *answers[asked[i].answer].value());
  }
  return answers;
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
