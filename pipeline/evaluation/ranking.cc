#include "pipeline/evaluation/ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace freshet {

void Seen::Take(const History& history) {
  ++stamp_;
  rows_.clear();
  for (size_t back = 0; back < history.size(); ++back) {
    const uint32_t row = history.Back(back);
    if (stamps_[row] == stamp_) continue;
    stamps_[row] = stamp_;
    rows_.push_back(row);
  }
}

void Best::Clear() {
  kept_.clear();
  threshold_ = -std::numeric_limits<float>::infinity();
}

void Best::OfferAll(std::span<const float> scores) {
  constexpr size_t kBlock = 64;  // few hold anything that is good enough, and to see that takes no branch a score
  for (size_t begin = 0; begin < scores.size(); begin += kBlock) {
    const auto block = scores.subspan(begin, std::min(kBlock, scores.size() - begin));
    const float threshold = std::max(threshold_, std::numeric_limits<float>::lowest());
    int good = 0;
    for (const float score : block) good += score >= threshold ? 1 : 0;
    for (size_t i = 0; good > 0 && i < block.size(); ++i) {
      if (block[i] >= threshold) Offer(block[i], static_cast<uint32_t>(begin + i));
    }
  }
}

void Best::Cut() {
  const auto end = kept_.begin() + static_cast<std::ptrdiff_t>(kCutoffs.back());
  std::nth_element(kept_.begin(), end - 1, kept_.end());
  threshold_ = -(end - 1)->first;
  kept_.erase(end, kept_.end());
}

void Best::Take(std::vector<uint32_t>& top) {
  std::sort(kept_.begin(), kept_.end());
  top.clear();
  for (size_t i = 0; i < std::min(kept_.size(), kCutoffs.back()); ++i) top.push_back(kept_[i].second);
}

void Lists::Add(std::span<const uint32_t> top, size_t candidates) {
  const double all = static_cast<double>(total_) + static_cast<double>(candidates);
  double bits = 0;
  size_t cutoff = 0;
  for (size_t place = 0; place < top.size(); ++place) {
    best_place_[top[place]] = std::min(best_place_[top[place]], place);
    bits += std::log2(all / (counts_[top[place]] + 1.0));
    if (place + 1 != kCutoffs[cutoff]) continue;
    bits_[cutoff] += bits;
    listed_[cutoff++] += static_cast<int64_t>(place) + 1;
  }
  for (; cutoff < kCutoffs.size(); ++cutoff) {  // of a shorter list
    bits_[cutoff] += bits;
    listed_[cutoff] += static_cast<int64_t>(top.size());
  }
}

void Lists::Finish(Outcome& outcome) const {
  const auto places = std::span(best_place_).first(items_).subspan(1);
  for (size_t i = 0; i < kCutoffs.size(); ++i) {
    const auto covered = std::count_if(places.begin(), places.end(), [&](size_t place) { return place < kCutoffs[i]; });
    outcome.coverage[i] = static_cast<double>(covered) / static_cast<double>(std::max<int64_t>(outcome.candidates, 1));
    outcome.novelty[i] = bits_[i] / static_cast<double>(std::max<int64_t>(listed_[i], 1));
  }
}

}  // namespace freshet
