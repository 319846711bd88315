#include "pipeline/dead_letter_samples.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "core/clock.h"

namespace freshet {
namespace {

class SamplingDecoder : public EventDecoder {
 public:
  SamplingDecoder(std::unique_ptr<EventDecoder> decoder, DeadLetterSamples& samples)
      : decoder_(std::move(decoder)), samples_(samples) {}

  std::variant<Event, DecodeFailure> Decode(const RawRecord& record, Arena& arena) override {
    std::variant<Event, DecodeFailure> decoded = decoder_->Decode(record, arena);
    if (const auto* const failure = std::get_if<DecodeFailure>(&decoded)) samples_.Add(record, *failure);
    return decoded;
  }
  Status CheckHeader(std::string_view header) const override { return decoder_->CheckHeader(header); }

 private:
  const std::unique_ptr<EventDecoder> decoder_;
  DeadLetterSamples& samples_;
};

}  // namespace

void DeadLetterSamples::Add(const RawRecord& record, const DecodeFailure& failure) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  auto found = samples_.find(failure.code);
  if (found == samples_.end()) {
    if (samples_.size() == kReasons) return;
    found = samples_.emplace(failure.code, std::deque<DeadLetterSample>()).first;
  }
  std::deque<DeadLetterSample>& kept = found->second;
  const auto is_it = [&](const DeadLetterSample& sample) {
    return sample.partition == record.shown_partition && sample.offset == record.shown_offset &&
           sample.topic == record.topic;
  };
  if (std::ranges::any_of(kept, is_it)) return;
  if (kept.size() == kKept) kept.pop_front();
  const auto beginning = [](std::string_view bytes) { return std::string(bytes.substr(0, kMostBytes)); };
  kept.push_back({.reason = found->first,
                  .message = beginning(failure.message),
                  .topic = std::string(record.topic),
                  .partition = record.shown_partition,
                  .offset = record.shown_offset,
                  .key = beginning(record.key),
                  .value = beginning(record.value),
                  .cut = record.value.size() > kMostBytes || record.oversize_bytes > 0,
                  .read_at_ms = WallClockMs()});
}

std::vector<DeadLetterSample> DeadLetterSamples::Newest() const {
  const std::lock_guard lock(mutex_);
  std::vector<DeadLetterSample> newest;
  for (const auto& [_, kept] : samples_) newest.insert(newest.end(), kept.rbegin(), kept.rend());
  return newest;
}

std::unique_ptr<EventDecoder> WithSamples(std::unique_ptr<EventDecoder> decoder, DeadLetterSamples& samples) {
  return std::make_unique<SamplingDecoder>(std::move(decoder), samples);
}

}  // namespace freshet
