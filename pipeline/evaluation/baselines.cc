#include "pipeline/evaluation/baselines.h"

#include <algorithm>
#include <cmath>

namespace freshet {

Candidates::Candidates(const BaselineOptions& options)
    : end_(options.items_appear ? 1 : static_cast<uint32_t>(options.items)),
      exclude_seen_(options.exclude_seen),
      excluded_(options.items) {}

Popularity::Popularity(const BaselineOptions& options, int64_t window_ms)
    : candidates_(options), window_ms_(window_ms), counts_(options.items), at_least_(1) {
  for (uint32_t row = 1; row < candidates_.end(); ++row) order_.insert(Key(0, row));
  at_least_[0] = candidates_.end() - 1;
}

void Popularity::Change(uint32_t row, int difference) {
  order_.erase(Key(counts_[row], row));
  if (difference > 0) {
    const uint32_t count = ++counts_[row];
    if (at_least_.size() <= count) at_least_.push_back(0);
    ++at_least_[count];
  } else {
    --at_least_[counts_[row]--];
  }
  order_.insert(Key(counts_[row], row));
}

void Popularity::Forget(int64_t now_ms) {
  if (window_ms_ == kForEver) return;
  for (; !window_.empty() && window_.top().time_ms <= now_ms - window_ms_; window_.pop()) Change(window_.top().row, -1);
}

void Popularity::Consume(const History&, uint32_t row, int64_t time_ms) {
  Forget(time_ms);
  if (row == 0) return;
  for (uint32_t fresh = candidates_.end(); fresh <= row; ++fresh) {
    order_.insert(Key(0, fresh));
    ++at_least_[0];
  }
  candidates_.Add(row);
  Change(row, 1);
  if (window_ms_ != kForEver) window_.push({time_ms, row});
}

void Popularity::Rank(const History& history, uint32_t target, int64_t now_ms, Ranking& ranking) {
  Forget(now_ms);
  candidates_.Exclude(history);
  ranking.top.clear();
  for (auto entry = order_.begin(); entry != order_.end() && ranking.top.size() < kCutoffs.back(); ++entry) {
    const auto row = static_cast<uint32_t>(*entry);
    if (!candidates_.IsExcluded(row)) ranking.top.push_back(row);
  }
  ranking.rank = 0;
  if (!candidates_.Holds(target)) return;
  ranking.rank = at_least_[counts_[target]];
  candidates_.VisitExcluded([&](uint32_t row) { ranking.rank -= counts_[row] >= counts_[target] ? 1 : 0; });
}

void Weights::Add(uint32_t row, float weight) {
  if (row == 0) return;
  if (slots_.empty()) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& e) { return e.first == row; });
    if (found != entries_.end()) {
      found->second += weight;
    } else {
      entries_.emplace_back(row, weight);
      if (entries_.size() > kUnindexed) Reindex();
    }
    return;
  }
  uint32_t& slot = SlotOf(row);
  if (slot != 0) {
    entries_[slot - 1].second += weight;
    return;
  }
  entries_.emplace_back(row, weight);
  slot = static_cast<uint32_t>(entries_.size());
  if (4 * entries_.size() > 3 * slots_.size()) Reindex();
}

uint32_t& Weights::SlotOf(uint32_t row) {
  const size_t mask = slots_.size() - 1;
  size_t slot = (row * size_t{0x9e3779b97f4a7c15} >> 32) & mask;
  while (slots_[slot] != 0 && entries_[slots_[slot] - 1].first != row) slot = (slot + 1) & mask;
  return slots_[slot];
}

void Weights::Reindex() {
  slots_.assign(std::max(4 * kUnindexed, 2 * slots_.size()), 0);
  for (uint32_t entry = 0; entry < entries_.size(); ++entry) SlotOf(entries_[entry].first) = entry + 1;
}

template <typename Score>
void Sums::Rank(const Candidates& candidates, uint32_t target, Score score, Ranking& ranking) {
  candidates.VisitExcluded([&](uint32_t row) { sums_[row] = 0; });
  const float of_target = score(target, sums_[target]);
  uint32_t at_least = 0;
  best_.Clear();
  for (size_t i = 0; i < touched_count_; ++i) {
    const uint32_t row = touched_[i];
    const float of_row = score(row, sums_[row]);
    at_least += of_row >= of_target ? 1 : 0;
    if (of_row > 0) best_.Offer(of_row, row);
  }
  best_.Take(ranking.top);
  if (of_target == 0) {  // with all others that have nothing
    at_least = candidates.end() - 1;
    candidates.VisitExcluded([&](uint32_t) { --at_least; });
  }
  ranking.rank = candidates.Holds(target) ? at_least : 0;
  FillUp(candidates, ranking.top);
  for (size_t i = 0; i < touched_count_; ++i) sums_[touched_[i]] = 0;
  touched_count_ = 0;
}

void Sums::FillUp(const Candidates& candidates, std::vector<uint32_t>& top) {
  for (uint32_t row = 1; row < candidates.end() && top.size() < kCutoffs.back(); ++row) {
    if (sums_[row] == 0 && !candidates.IsExcluded(row)) top.push_back(row);
  }
}

CoVisitation::CoVisitation(const BaselineOptions& options, size_t last)
    : candidates_(options), last_(last), followers_(options.items), sums_(options.items) {}

void CoVisitation::Consume(const History& history, uint32_t row, int64_t) {
  candidates_.Add(row);
  for (size_t back = 0; back < std::min(kReach, history.size()); ++back) {
    followers_[history.Back(back)].Add(row, 2520 / static_cast<float>(back + 1));
  }
}

void CoVisitation::Rank(const History& history, uint32_t target, int64_t, Ranking& ranking) {
  candidates_.Exclude(history);
  for (size_t back = 0; back < std::min(last_, history.size()); ++back) {
    const float weight = 1 / static_cast<float>(1 + back);
    sums_.Add(followers_[history.Back(back)], weight);
  }
  sums_.Rank(
      candidates_, target, [](uint32_t, float sum) { return sum; }, ranking);
}

ItemKnn::ItemKnn(const BaselineOptions& options)
    : candidates_(options),
      counts_(options.items),
      inverse_root_(options.items),
      neighbours_(options.items),
      sums_(options.items) {}

void ItemKnn::TakeNewest(const History& history) {
  newest_.clear();
  for (size_t back = 0; back < std::min(kReach, history.size()); ++back) {
    const uint32_t row = history.Back(back);
    if (std::find(newest_.begin(), newest_.end(), row) == newest_.end()) newest_.push_back(row);
  }
}

void ItemKnn::Consume(const History& history, uint32_t row, int64_t) {
  candidates_.Add(row);
  inverse_root_[row] = 1 / std::sqrt(static_cast<float>(++counts_[row]));
  TakeNewest(history);
  for (const uint32_t other : newest_) {
    if (other == row) continue;
    neighbours_[row].Add(other, 1);
    neighbours_[other].Add(row, 1);
  }
}

void ItemKnn::Rank(const History& history, uint32_t target, int64_t, Ranking& ranking) {
  candidates_.Exclude(history);
  TakeNewest(history);
  for (const uint32_t item : newest_) sums_.Add(neighbours_[item], inverse_root_[item]);
  sums_.Rank(
      candidates_, target, [&](uint32_t row, float sum) { return sum * inverse_root_[row]; }, ranking);
}

}  // namespace freshet
