#include "inference/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace freshet {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

}  // namespace

// Candidates at which they are cut back to those that may be among the k best.
size_t Selection::Limit() const { return k_ + std::max<size_t>(3 * k_, 128); }

void Selection::Begin(const RankRequest& request, size_t spans, const Approximation* approximation) {
  k_ = request.top.size();
  approximation_ = approximation;
  is_exact_ = approximation == nullptr;
  const size_t capacity = Limit() + 2 * kPad;
  if (keys_.size() < capacity) keys_.resize(capacity);
  if (!is_exact_ && products_.size() < capacity) products_.resize(capacity);
  found_ = 0;
  threshold_ = kNever;
  excluded_.resize(request.excluded.size());
  std::transform(request.excluded.begin(), request.excluded.end(), excluded_.begin(),
                 [](ItemRow row) { return Raw(row); });
  if (spans > 1) SortAscending(excluded_);  // a single span takes them all, in any order
  next_excluded_ = 0;
}

void Selection::Take(const SpanScores& span) {
  if (k_ == 0) return;
  Exclude(span);
  const float guess = span.first_row == 0 ? GuessThreshold(span) : kNever;
  if (span.first_row == 0) threshold_ = guess;
  Scan(span);
  if (guess == kNever || GuessHolds(guess)) return;
  found_ = 0;
  threshold_ = kNever;
  is_exact_ = approximation_ == nullptr;
  Scan(span);
}

void Selection::Finish(RankRequest& request) {
  Cut();
  if (!is_exact_) {
    MakeExact(0);
    Cut();
  }
  request.found = found_;
  for (size_t i = 0; i < found_; ++i) request.top[i] = {ItemRow{RowOf(keys_[i])}, ScoreOf(keys_[i])};
}

void Selection::Exclude(const SpanScores& span) {
  size_t& next = next_excluded_;
  for (; next < excluded_.size() && excluded_[next] < span.first_row + span.items; ++next) {
    *span.At(excluded_[next] - span.first_row) = kNever;
  }
  if (span.first_row == 0) *span.At(0) = kNever;
}

// A score that somewhat more than k of the first span's are likely to be above, judged by a sample of them.
float Selection::GuessThreshold(const SpanScores& span) const {
  constexpr size_t kSample = 256;  // what the sort does in one go, without partitioning
  if (span.items < 2 * kSample) return kNever;
  const double expected = static_cast<double>(k_) * kSample / static_cast<double>(span.items);
  const size_t rank = static_cast<size_t>(expected + 2.5 * std::sqrt(expected)) + 1;
  if (rank >= kSample / 2) return kNever;
  uint32_t sample[kSample];
  const size_t vectors = span.items / kPad;
  for (size_t i = 0; i < kSample / kPad; ++i) {
    OrderScores(span.At(i * vectors / (kSample / kPad) * kPad), kPad, sample + i * kPad);
  }
  SortDescending(std::span<uint32_t>(sample));
  if (sample[rank] == 0) return kNever;
  return ScoreOfOrdered(sample[rank]) - (is_exact_ ? 0 : 2 * approximation_->bound);
}

// Whether nothing that counts was left out by scanning for what is above `guess`.
bool Selection::GuessHolds(float guess) {
  if (found_ < k_) return false;
  if (approximation_ == nullptr) return true;
  if (is_exact_) {
    Cut();
    return Above() >= guess;
  }
  // All that count are above the k-th best less 2 · bound, which is above the guess if k are above that and 2 · bound.
  const RankKey enough = MakeRankKey(guess + 2 * approximation_->bound, std::numeric_limits<uint32_t>::max());
  const auto best = std::count_if(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(found_),
                                  [&](RankKey key) { return key > enough; });
  return static_cast<size_t>(best) >= k_;
}

// What a score must be above for its item to get in.
float Selection::Above() const {
  if (approximation_ == nullptr || !is_exact_) return threshold_;
  return threshold_ / approximation_->unit - approximation_->bound;
}

// Takes in what is above the threshold.
void Selection::Scan(const SpanScores& span) {
  for (size_t block = 0; block < span.items; block += span.block_items) {
    const size_t end = std::min(span.items, block + span.block_items);
    for (size_t done = block;;) {
      const size_t before = found_;
      done += ScanAbove(span.At(block) + (done - block), end - done, static_cast<uint32_t>(span.first_row + done),
                        Above(), Limit(), keys_.data(), found_);
      if (approximation_ != nullptr && is_exact_) MakeExact(before);
      if (done == end) break;
      Cut();
    }
  }
}

// Sorts the candidates, best first, and leaves out those that cannot be among the k best. Candidates to come have
// higher rows, so an exact tie with the last one kept is lost.
void Selection::Cut() {
  SortDescending(std::span(keys_.data(), found_));
  if (k_ == 0 || found_ < k_) return;
  const float last = ScoreOf(keys_[k_ - 1]);
  if (is_exact_) {
    found_ = k_;
    threshold_ = last;
    return;
  }
  // The k best so far are exactly at least last - bound, so that is out which is at most last - 2 · bound minus a bit.
  threshold_ = std::nextafter(last - 2 * approximation_->bound, kNever);
  size_t kept = k_;
  while (kept < found_ && ScoreOf(keys_[kept]) > threshold_) ++kept;
  found_ = kept;
  if (found_ <= Limit() / 2) return;
  threshold_ = kNever;
  MakeExact(0);
  Cut();
}

// Gives the candidates from `first` on their exact scores, and leaves out those that are not above the threshold then.
void Selection::MakeExact(size_t first) {
  const Approximation& means = *approximation_;
  const std::span<const RankKey> candidates(&keys_[first], found_ - first);
  if (!is_exact_) threshold_ = kNever;
  is_exact_ = true;
  DotRows(means.user_vector, means.table, means.dim, candidates, products_.data());
  found_ = first;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const uint32_t row = RowOf(candidates[i]);
    const float score = products_[i] * means.item_scales[row];
    if (score > threshold_) keys_[found_++] = MakeRankKey(score, row);
  }
}

}  // namespace freshet
