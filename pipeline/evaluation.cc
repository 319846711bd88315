#include "pipeline/evaluation.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>
#include <utility>

namespace freshet {
namespace {

constexpr size_t kUsersAtOnce = 64;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();

// Sums up rankings, a user at a time.
class Meter {
 public:
  explicit Meter(size_t items) : items_(items) {
    for (const int k : kCutoffs) covered_[k].resize(items);
  }

  // `scores` [items]: what is excluded is kExcluded, row 0 too; `target`: the row looked for.
  void Add(std::span<const float> scores, ItemRow target) {
    ++users_;
    Cover(scores);
    const float score = scores[Raw(target)];
    if (score == kExcluded) return;
    const int64_t rank = std::count_if(scores.begin(), scores.end(), [&](float other) { return other >= score; });
    reciprocal_ += 1.0 / static_cast<double>(rank);
    for (const int k : kCutoffs) {
      if (rank > k) continue;
      sums_.at[k].hr += 1;
      sums_.at[k].ndcg += 1 / std::log2(static_cast<double>(rank) + 1);
      sums_.at[k].f1 += 2.0 / (k + 1.0);
    }
  }

  Accuracy Mean() const {
    const double users = static_cast<double>(std::max<int64_t>(users_, 1));
    Accuracy mean;
    mean.mrr = reciprocal_ / users;
    for (const int k : kCutoffs) {
      const auto found = sums_.at.find(k);
      Accuracy::AtK& at = mean.at[k];
      if (found != sums_.at.end())
        at = {found->second.hr / users, found->second.ndcg / users, found->second.f1 / users, 0};
      const auto covered = std::count(covered_.at(k).begin(), covered_.at(k).end(), true);
      at.coverage = static_cast<double>(covered) / static_cast<double>(std::max<size_t>(items_ - 1, 1));
    }
    return mean;
  }

 private:
  void Cover(std::span<const float> scores) {
    best_.clear();
    for (uint32_t row = 0; row < scores.size(); ++row) {
      if (scores[row] != kExcluded) best_.emplace_back(-scores[row], row);
    }
    const auto most = static_cast<size_t>(*std::rbegin(kCutoffs));
    const size_t kept = std::min(most, best_.size());
    std::partial_sort(best_.begin(), best_.begin() + static_cast<std::ptrdiff_t>(kept), best_.end());
    for (const int k : kCutoffs) {
      for (size_t i = 0; i < std::min<size_t>(kept, static_cast<size_t>(k)); ++i) covered_[k][best_[i].second] = true;
    }
  }

  size_t items_;
  int64_t users_ = 0;
  double reciprocal_ = 0;
  Accuracy sums_;
  std::map<int, std::vector<bool>> covered_;
  std::vector<std::pair<float, uint32_t>> best_;
};

// What stands before a user's target.
std::span<const ModelToken> HistoryOf(const UserSequence& user) {
  return std::span(user.tokens).first(user.tokens.size() - 1);
}
ItemRow TargetOf(const UserSequence& user) { return user.tokens.back().item; }

void Exclude(std::span<const ModelToken> history, bool seen, std::span<float> scores) {
  scores[0] = kExcluded;
  if (!seen) return;
  for (const ModelToken& token : history) scores[Raw(token.item)] = kExcluded;
}

// Weight of "b came up to kReach events after a": the inverse of how many.
class CoVisitation {
 public:
  CoVisitation(std::span<const UserSequence* const> users, size_t items) : followers_(items) {
    for (const UserSequence* const user : users) {
      const auto history = HistoryOf(*user);
      for (size_t i = 0; i < history.size(); ++i) {
        for (size_t distance = 1; distance <= kReach && i + distance < history.size(); ++distance) {
          followers_[Raw(history[i].item)].emplace_back(Raw(history[i + distance].item),
                                                        1.0F / static_cast<float>(distance));
        }
      }
    }
    for (auto& followers : followers_) Merge(followers);
  }

  // Sums over the newest `last` items of the history, the one j events back weighing 1 / (1 + j).
  void Score(std::span<const ModelToken> history, size_t last, std::span<float> scores) const {
    std::fill(scores.begin(), scores.end(), 0.0F);
    for (size_t back = 0; back < std::min(last, history.size()); ++back) {
      const float weight = 1.0F / static_cast<float>(1 + back);
      for (const auto& [row, count] : followers_[Raw(history[history.size() - 1 - back].item)])
        scores[row] += weight * count;
    }
  }

 private:
  static constexpr size_t kReach = 10;
  using Followers = std::vector<std::pair<uint32_t, float>>;

  static void Merge(Followers& followers) {
    std::sort(followers.begin(), followers.end());
    size_t kept = 0;
    for (size_t i = 0; i < followers.size(); ++i) {
      if (kept > 0 && followers[kept - 1].first == followers[i].first) {
        followers[kept - 1].second += followers[i].second;
      } else {
        followers[kept++] = followers[i];
      }
    }
    followers.resize(kept);
    followers.shrink_to_fit();
  }

  std::vector<Followers> followers_;
};

std::vector<float> Popularity(std::span<const UserSequence* const> users, size_t items) {
  std::vector<float> counts(items);
  for (const UserSequence* const user : users) {
    for (const ModelToken& token : HistoryOf(*user)) counts[Raw(token.item)] += 1;
  }
  return counts;
}

template <typename Score>
Accuracy Baseline(std::span<const UserSequence* const> users, size_t items, bool exclude_seen, Score score) {
  Meter meter(items);
  std::vector<float> scores(items);
  for (const UserSequence* const user : users) {
    score(HistoryOf(*user), std::span<float>(scores));
    Exclude(HistoryOf(*user), exclude_seen, scores);
    meter.Add(scores, TargetOf(*user));
  }
  return meter.Mean();
}

// The user vectors of some users' histories, through the incremental step.
void UserVectors(const ServingModel& serving, std::span<const UserSequence* const> users, Engine::Scratch& scratch,
                 std::vector<float>& vectors) {
  const auto dim = static_cast<size_t>(serving.model->config.dim);
  vectors.assign(users.size() * dim, 0);
  std::vector<KeyValueCache> caches(users.size());
  std::vector<StepRow> rows;
  for (size_t i = 0; i < users.size(); ++i) {
    const auto history = HistoryOf(*users[i]);
    for (const ModelToken& token : history.last(std::min(history.size(), serving.model->config.exact_history()))) {
      rows.push_back({&caches[i], token, nullptr});
    }
    rows.back().user_vector = &vectors[i * dim];
  }
  serving.engine->Step(rows, scratch);
}

Accuracy RankModel(const ServingModel& serving, std::span<const UserSequence* const> users, bool exclude_seen,
                   const std::function<void(int64_t, int64_t)>& progress) {
  const auto items = static_cast<size_t>(serving.model->config.items);
  const auto dim = static_cast<size_t>(serving.model->config.dim);
  const auto engine_scratch = serving.engine->MakeScratch(256);
  const auto ranker_scratch = serving.ranker->MakeScratch(kUsersAtOnce);
  Meter meter(items);
  std::vector<float> vectors;
  std::vector<float> scores(kUsersAtOnce * items);
  for (size_t begin = 0; begin < users.size(); begin += kUsersAtOnce) {
    const auto some = users.subspan(begin, std::min(kUsersAtOnce, users.size() - begin));
    UserVectors(serving, some, *engine_scratch, vectors);
    std::vector<const float*> pointers;
    for (size_t i = 0; i < some.size(); ++i) pointers.push_back(&vectors[i * dim]);
    serving.ranker->ScoreAll(pointers, scores.data(), *ranker_scratch);
    for (size_t i = 0; i < some.size(); ++i) {
      const std::span<float> row(&scores[i * items], items);
      Exclude(HistoryOf(*some[i]), exclude_seen, row);
      meter.Add(row, TargetOf(*some[i]));
    }
    progress(static_cast<int64_t>(begin + some.size()), static_cast<int64_t>(users.size()));
  }
  return meter.Mean();
}

}  // namespace

Result<Evaluation> EvaluateLeaveOneOut(const ServingModel& serving, const EventLog& log, bool exclude_seen,
                                       const std::function<void(int64_t, int64_t)>& progress) {
  std::vector<const UserSequence*> users;
  for (const UserSequence& user : log.users) {
    if (user.tokens.size() >= 2) users.push_back(&user);
  }
  if (users.empty())
    return Error(ErrorCode::kInvalidArgument, "--input: no user has two events, which leave-one-out needs");
  const auto items = static_cast<size_t>(serving.model->config.items);
  Evaluation evaluation;
  evaluation.users = static_cast<int64_t>(users.size());
  evaluation.candidates = static_cast<int64_t>(items) - 1;
  for (const UserSequence* const user : users) {
    const ItemRow target = TargetOf(*user);
    const auto history = HistoryOf(*user);
    const bool seen =
        std::any_of(history.begin(), history.end(), [&](const ModelToken& token) { return token.item == target; });
    if (target == kUnknownItem) {
      ++evaluation.unknown_targets;
    } else if (seen && exclude_seen) {
      ++evaluation.seen_targets;
    }
  }
  evaluation.model = RankModel(serving, users, exclude_seen, progress);
  const std::vector<float> popularity = Popularity(users, items);
  evaluation.baselines["popularity"] =
      Baseline(users, items, exclude_seen, [&](std::span<const ModelToken>, std::span<float> scores) {
        std::copy(popularity.begin(), popularity.end(), scores.begin());
      });
  const CoVisitation covisitation(users, items);
  for (const auto& [name, last] :
       {std::pair("covisitation_last", size_t{1}), std::pair("covisitation_20", size_t{20})}) {
    evaluation.baselines[name] = Baseline(
        users, items, exclude_seen, [&, last = last](std::span<const ModelToken> history, std::span<float> scores) {
          covisitation.Score(history, last, scores);
        });
  }
  return evaluation;
}

}  // namespace freshet
