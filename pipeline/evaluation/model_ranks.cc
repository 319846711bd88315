#include "pipeline/evaluation/model_ranks.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "pipeline/evaluation/baselines.h"

namespace freshet {
namespace {

constexpr size_t kCasesAtOnce = 64;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();

// The users' keys/values by one model, fed with their events as far as `cases` ask for them.
class UserVectors {
 public:
  UserVectors(const ServingModel& serving, const EvaluationPlan& plan, std::span<const Case> cases, const RowMap& rows,
              size_t cache_bytes)
      : serving_(serving),
        plan_(plan),
        rows_(rows),
        cache_bytes_(cache_bytes),
        scratch_(serving.engine->MakeScratch(256)),
        users_(plan.log->users.size()) {
    for (const Case& asked : cases) ++users_[asked.user].cases_left;
  }

  // Of each of `cases`, [cases, dim]; left as it is where there is no history.
  void Compute(std::span<const Case> cases, float* vectors) {
    const auto dim = static_cast<size_t>(serving_.model->config.dim);
    steps_.clear();
    for (size_t i = 0; i < cases.size(); ++i) Feed(cases[i], vectors + i * dim);
    serving_.engine->Step(steps_, *scratch_);
    for (const Case& asked : cases) Settle(asked.user);
    while (bytes_ > cache_bytes_ && !used_.empty()) ForgetOldest();
  }

 private:
  struct User {
    KeyValueCache cache;
    size_t bytes = 0;         // of the cache
    uint32_t taken = 0;       // events taken in; 0 where the cache is empty
    uint32_t cases_left = 0;  // that were not computed yet
    uint64_t used_at = 0;
  };

  void Feed(const Case& asked, float* vector) {
    User& user = users_[asked.user];
    --user.cases_left;
    if (asked.history == 0) return;
    const auto exact = static_cast<uint32_t>(serving_.model->config.exact_history());
    if (user.taken == 0) user.taken = asked.history - std::min(asked.history, exact);
    for (; user.taken < asked.history; ++user.taken) {
      steps_.push_back({&user.cache, rows_(plan_.log->users[asked.user].tokens[user.taken]), nullptr});
    }
    steps_.back().user_vector = vector;
  }

  void Settle(uint32_t index) {
    User& user = users_[index];
    if (user.cases_left == 0) return Forget(user);
    const size_t bytes = user.cache.Bytes();
    bytes_ += bytes - user.bytes;
    user.bytes = bytes;
    user.used_at = ++clock_;
    used_.emplace_back(index, clock_);
  }

  void Forget(User& user) {
    bytes_ -= user.bytes;
    user.bytes = 0;
    user.taken = 0;
    user.cache.Clear();
  }

  void ForgetOldest() {
    const auto [index, used_at] = used_.front();
    used_.pop_front();
    if (users_[index].used_at == used_at) Forget(users_[index]);
  }

  const ServingModel& serving_;
  const EvaluationPlan& plan_;
  const RowMap& rows_;
  size_t cache_bytes_;
  std::unique_ptr<Engine::Scratch> scratch_;
  std::vector<User> users_;
  std::vector<StepRow> steps_;
  size_t bytes_ = 0;
  uint64_t clock_ = 0;
  std::deque<std::pair<uint32_t, uint64_t>> used_;  // user and used_at, oldest first; outdated entries among them
};

class ModelRanks {
 public:
  ModelRanks(const ServingModel& serving, const EvaluationPlan& plan, const ModelRankOptions& options)
      : first_(serving),
        last_(options.later.empty() ? serving : *options.later.back().serving),
        plan_(plan),
        options_(options),
        log_rows_(SameRows(plan.log->vocabulary)),
        last_rows_(MapRows(plan.log->vocabulary, last_.model->vocabulary)),
        lists_(last_.model->vocabulary.item_ids().size(), log_rows_.items.size()),
        fallback_({log_rows_.items.size(), plan.items_appear, options.exclude_seen}, options.fallback_window_ms) {}

  Outcome Run(std::atomic<int64_t>& done) {
    Outcome outcome;
    outcome.name = first_.model->name;
    outcome.candidates = static_cast<int64_t>(last_.model->vocabulary.item_ids().size()) - 1;
    outcome.ranks.reserve(plan_.cases.size());
    const std::span<const Case> cases(plan_.cases);
    std::vector<size_t> ends = TakeOvers(plan_, options_.later);
    ends.push_back(cases.size());
    size_t begin = 0;
    for (size_t stage = 0; stage < ends.size(); begin = ends[stage++]) {
      const ServingModel& serving = stage == 0 ? first_ : *options_.later[stage - 1].serving;
      RankBy(AnsweringOf(serving), cases.subspan(begin, ends[stage] - begin), outcome.ranks, done);
    }
    lists_.Finish(outcome);
    return outcome;
  }

 private:
  // A model that answers.
  struct Answering {
    const ServingModel& serving;
    RowMap rows;                   // the log's, in the model's
    std::vector<uint32_t> listed;  // the model's, in those of `lists_`
  };

  Answering AnsweringOf(const ServingModel& serving) const {
    const Vocabulary& model = serving.model->vocabulary;
    const RowMap in_last = MapRows(model, last_.model->vocabulary), in_log = MapRows(model, plan_.log->vocabulary);
    Answering answering{serving, MapRows(plan_.log->vocabulary, model), {}};
    for (size_t row = 0; row < in_last.items.size(); ++row) {
      answering.listed.push_back(ListRow(in_last.items[row], in_log.items[row]));
    }
    return answering;
  }

  void RankBy(const Answering& by, std::span<const Case> cases, std::vector<uint32_t>& ranks,
              std::atomic<int64_t>& done) {
    const ServingModel& serving = by.serving;
    const auto dim = static_cast<size_t>(serving.model->config.dim);
    const auto items = static_cast<size_t>(serving.model->config.items);
    UserVectors user_vectors(serving, plan_, cases, by.rows, options_.cache_bytes);
    const auto scratch = serving.ranker->MakeScratch(kCasesAtOnce);
    std::vector<float> vectors(kCasesAtOnce * dim), scores(kCasesAtOnce * items);
    for (size_t begin = 0; begin < cases.size(); begin += kCasesAtOnce) {
      const auto some = cases.subspan(begin, std::min(kCasesAtOnce, cases.size() - begin));
      user_vectors.Compute(some, vectors.data());
      std::vector<const float*> pointers;
      for (size_t i = 0; i < some.size(); ++i) pointers.push_back(&vectors[i * dim]);
      serving.ranker->ScoreAll(pointers, scores.data(), *scratch);
      for (size_t i = 0; i < some.size(); ++i) {
        ranks.push_back(RankOf(by, some[i], std::span<float>(&scores[i * items], items)));
      }
      done += static_cast<int64_t>(some.size());
    }
  }

  // An item's row in `lists_`: the last model's, or one behind those if only the log has it, or 0: no event is its own.
  uint32_t ListRow(ItemRow in_last, ItemRow in_log) const {
    if (Raw(in_last) != 0 || Raw(in_log) == 0) return Raw(in_last);
    return static_cast<uint32_t>(last_.model->vocabulary.item_ids().size()) + Raw(in_log);
  }

  // What the fallback and novelty may know before a case.
  void TakeIn(size_t known) {
    for (; known_ < known; ++known_) {
      const KnownEvent& event = plan_.events[known_];
      const ItemRow item = plan_.log->users[event.user].tokens[event.history].item;
      lists_.Count(ListRow(last_rows_.items[Raw(item)], item));
      fallback_.Consume(History({}, log_rows_), Raw(item), event.time_ms);
    }
  }

  uint32_t RankOf(const Answering& by, const Case& asked, std::span<float> scores) {
    TakeIn(asked.known);
    const std::span<const ModelToken> tokens(plan_.log->users[asked.user].tokens);
    const ItemRow target = tokens[asked.history].item;
    if (asked.history == 0) {
      fallback_.Rank(History({}, log_rows_), Raw(target), asked.now_ms, ranking_);
      return ranking_.rank;
    }
    scores[0] = kExcluded;
    const History history(tokens.first(asked.history), by.rows);
    for (size_t back = 0; options_.exclude_seen && back < history.size(); ++back)
      scores[history.Back(back)] = kExcluded;
    best_.Clear();
    best_.OfferAll(scores);
    best_.Take(ranking_.top);
    for (uint32_t& row : ranking_.top) row = by.listed[row];
    lists_.Add(ranking_.top, scores.size() - 1);
    const float of_target = scores[Raw(by.rows.items[Raw(target)])];
    if (of_target == kExcluded) return 0;
    return static_cast<uint32_t>(
        std::count_if(scores.begin(), scores.end(), [&](float score) { return score >= of_target; }));
  }

  const ServingModel& first_;
  const ServingModel& last_;
  const EvaluationPlan& plan_;
  ModelRankOptions options_;
  RowMap log_rows_;
  RowMap last_rows_;
  Lists lists_;
  Popularity fallback_;
  size_t known_ = 0;
  Best best_;
  Ranking ranking_;
};

}  // namespace

std::vector<size_t> TakeOvers(const EvaluationPlan& plan, std::span<const LaterModel> later) {
  std::vector<size_t> begins;
  size_t begin = 0;
  for (const LaterModel& model : later) {
    while (begin < plan.cases.size() && plan.cases[begin].now_ms < model.from_ms) ++begin;
    begins.push_back(begin);
  }
  return begins;
}

Outcome RankByModel(const ServingModel& serving, const EvaluationPlan& plan, const ModelRankOptions& options,
                    std::atomic<int64_t>& done) {
  return ModelRanks(serving, plan, options).Run(done);
}

}  // namespace freshet
