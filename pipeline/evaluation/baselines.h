// What a model has to beat: predictors that only count. Each takes in events in the order of the plan and ranks cases
// in between, at a small cost for each, however large the catalogue.
//
// All have Consume(history, row, time_ms): `row` was the next after `history`; and Rank(): the rank of `target` among
// the candidates, rows 1 to candidates() - 1 less the history's where `exclude_seen`, and the best of them. Rows are
// those of the plan's log, or of a model. Threads: one owner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "pipeline/evaluation/ranking.h"

namespace freshet {

struct BaselineOptions {
  size_t items = 0;          // rows, row 0 included
  bool items_appear = true;  // see EvaluationPlan
  bool exclude_seen = true;
};

// Which rows can be ranked, now.
class Candidates {
 public:
  explicit Candidates(const BaselineOptions& options);

  // Makes `row` one.
  void Add(uint32_t row) {
    while (end_ <= row) ++end_;
  }
  uint32_t end() const { return end_; }
  // Takes the history's items out, where that is asked for.
  void Exclude(const History& history) {
    if (exclude_seen_) excluded_.Take(history);
  }
  bool Holds(uint32_t row) const { return row > 0 && row < end_ && !IsExcluded(row); }
  bool IsExcluded(uint32_t row) const { return exclude_seen_ && excluded_.Contains(row); }
  // Calls visit(row) for each row that Exclude() took out.
  template <typename Visit>
  void VisitExcluded(Visit visit) const {
    if (!exclude_seen_) return;
    for (const uint32_t row : excluded_.rows()) {
      if (row > 0 && row < end_) visit(row);
    }
  }

 private:
  uint32_t end_;
  bool exclude_seen_;
  Seen excluded_;
};

// By how many of the known events are an item's: all of them, or those of the last hours. An event is forgotten once
// one came that is `window_ms` later, or the present is.
class Popularity {
 public:
  static constexpr int64_t kForEver = 0;

  Popularity(const BaselineOptions& options, int64_t window_ms);

  uint32_t candidates() const { return candidates_.end(); }
  void Consume(const History& history, uint32_t row, int64_t time_ms);
  void Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking);

 private:
  struct Timed {
    int64_t time_ms;
    uint32_t row;
    bool operator>(const Timed& other) const { return time_ms > other.time_ms; }
  };

  void Change(uint32_t row, int difference);
  void Forget(int64_t now_ms);
  static uint64_t Key(uint32_t count, uint32_t row) { return uint64_t{~count} << 32 | row; }

  Candidates candidates_;
  int64_t window_ms_;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> at_least_;  // candidates with a count of at least the index
  std::set<uint64_t> order_;        // candidates, the best first
  std::priority_queue<Timed, std::vector<Timed>, std::greater<>> window_;
};

// Row → weight: small, and its entries lie side by side, since a prediction walks tens of thousands of them. Row 0 is
// not kept.
class Weights {
 public:
  void Add(uint32_t row, float weight);
  void Scale(float factor) {
    for (auto& [row, weight] : entries_) weight *= factor;
  }
  std::span<const std::pair<uint32_t, float>> entries() const { return entries_; }

 private:
  static constexpr size_t kUnindexed = 8;  // so few are found by a look at each

  uint32_t& SlotOf(uint32_t row);
  void Reindex();

  std::vector<std::pair<uint32_t, float>> entries_;
  std::vector<uint32_t> slots_;  // entry + 1 by hash of its row; 0: free. A power of two of them, or none
};

// Sums of weights by row, and their ranking. Scores are > 0; every other candidate's is 0.
class Sums {
 public:
  explicit Sums(size_t items) : sums_(items), touched_(items) {}

  // Adds `factor` times each weight.
  void Add(const Weights& weights, float factor) {
    for (const auto& [row, weight] : weights.entries()) {
      touched_[touched_count_] = row;
      touched_count_ += sums_[row] == 0 ? 1 : 0;
      sums_[row] += weight * factor;
    }
  }
  // Ranks by score(row, its sum), and forgets the sums.
  template <typename Score>
  void Rank(const Candidates& candidates, uint32_t target, Score score, Ranking& ranking);

 private:
  void FillUp(const Candidates& candidates, std::vector<uint32_t>& top);

  std::vector<float> sums_;
  std::vector<uint32_t> touched_;  // rows with a sum: the first so many
  size_t touched_count_ = 0;
  Best best_;
};

// "b came within kReach events after a" weighs the inverse of how many; summed over the newest `last` items of the
// history, the one j events back weighing 1 / (1 + j).
class CoVisitation {
 public:
  static constexpr size_t kReach = 10;

  CoVisitation(const BaselineOptions& options, size_t last);

  uint32_t candidates() const { return candidates_.end(); }
  void Consume(const History& history, uint32_t row, int64_t time_ms);
  void Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking);

 private:
  Candidates candidates_;
  size_t last_;
  std::vector<Weights> followers_;  // in units of 1/2520, so that sums are whole numbers
  Sums sums_;
};

// Item-kNN: over the distinct items j of the newest kReach events, the sum of cosine(i, j) = n(i, j) / sqrt(n(i) ·
// n(j)). n(i): events with i; n(i, j): events with one of them while the other was among the user's kReach events
// before.
class ItemKnn {
 public:
  static constexpr size_t kReach = 10;

  explicit ItemKnn(const BaselineOptions& options);

  uint32_t candidates() const { return candidates_.end(); }
  void Consume(const History& history, uint32_t row, int64_t time_ms);
  void Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking);

 private:
  void TakeNewest(const History& history);

  Candidates candidates_;
  std::vector<uint32_t> counts_;
  std::vector<float> inverse_root_;  // 1 / sqrt(counts_)
  std::vector<Weights> neighbours_;
  std::vector<uint32_t> newest_;  // distinct
  Sums sums_;
};

}  // namespace freshet
