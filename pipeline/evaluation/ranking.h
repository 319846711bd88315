// What a predictor says about one case, and what is kept of it.
//
// Rank: 1 + the number of other candidates with a score >= the target's, so ties count against the predictor. A target
// that is no candidate (unknown, or left out as seen) has rank 0: a miss. Lists: higher score first, ties by lower row.
// Row 0 (unknown) is never a candidate.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/evaluation/plan.h"

namespace freshet {

inline constexpr std::array<size_t, 6> kCutoffs = {1, 5, 10, 20, 50, 100};

// What is going on in an evaluation, and how much of it is done.
struct Part {
  std::string what;  // a predictor's name, "intervals", "test of mrr"
  const char* unit;  // "predictions", "resamples", "permutations"
  int64_t done;
  int64_t total;
};
// Always on the thread that called.
using Tell = std::function<void(const Part&)>;

struct Ranking {
  uint32_t rank = 0;
  std::vector<uint32_t> top;  // rows, at most kCutoffs.back()
};

// A user's events before a case, newest last, in a predictor's rows. A view.
class History {
 public:
  History(std::span<const ModelToken> tokens, const RowMap& rows) : tokens_(tokens), rows_(&rows) {}

  size_t size() const { return tokens_.size(); }
  // The item `back` events ago; 0 is the newest.
  uint32_t Back(size_t back) const { return Raw(rows_->items[Raw(tokens_[tokens_.size() - 1 - back].item)]); }
  // When the newest event was. REQUIRES: there is one.
  int64_t Seconds() const { return tokens_.back().time_s; }

 private:
  std::span<const ModelToken> tokens_;
  const RowMap* rows_;
};

// The distinct rows of a history.
class Seen {
 public:
  explicit Seen(size_t items) : stamps_(items) {}

  void Take(const History& history);
  bool Contains(uint32_t row) const { return stamps_[row] == stamp_; }
  std::span<const uint32_t> rows() const { return rows_; }

 private:
  std::vector<uint64_t> stamps_;
  uint64_t stamp_ = 1;
  std::vector<uint32_t> rows_;
};

// The best kCutoffs.back() of what is offered, each row once.
class Best {
 public:
  void Clear();
  void Offer(float score, uint32_t row) {
    if (score < threshold_) return;
    kept_.emplace_back(-score, row);
    if (kept_.size() == 2 * kCutoffs.back()) Cut();
  }
  // Offers `scores` of rows 0.. but those that are -infinity.
  void OfferAll(std::span<const float> scores);
  void Take(std::vector<uint32_t>& top);

 private:
  void Cut();

  std::vector<std::pair<float, uint32_t>> kept_;
  float threshold_ = 0;
};

// What one predictor made of all cases.
struct Outcome {
  std::string name;
  int64_t candidates = 0;       // items that can be ranked, at the end
  std::vector<uint32_t> ranks;  // by case
  // By cutoff, over the lists' first k items:
  std::array<double, kCutoffs.size()> coverage{};  // share of the candidates that occurs
  std::array<double, kCutoffs.size()>
      novelty{};  // mean -log2 popularity, with (events + 1) / (all events + candidates)
};

// Gathers coverage and novelty of lists. REQUIRES: an item is counted when it becomes known.
class Lists {
 public:
  // `others`: rows behind those of the items, which may be counted and listed, but not covered; nor is row 0.
  explicit Lists(size_t items, size_t others = 0)
      : items_(items), counts_(items + others), best_place_(items + others, kCutoffs.back()) {}

  void Count(uint32_t row) {
    ++counts_[row];
    ++total_;
  }
  // `candidates`: items that could have been listed.
  void Add(std::span<const uint32_t> top, size_t candidates);
  // REQUIRES: outcome.candidates is set.
  void Finish(Outcome& outcome) const;

 private:
  size_t items_;
  std::vector<uint32_t> counts_;
  int64_t total_ = 0;
  std::vector<size_t> best_place_;  // from 0, in any list
  std::array<double, kCutoffs.size()> bits_{};
  std::array<int64_t, kCutoffs.size()> listed_{};
};

}  // namespace freshet
