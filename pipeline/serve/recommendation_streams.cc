#include "pipeline/serve/recommendation_streams.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace freshet {

std::string WithBest(const std::string& record, size_t k) {
  if (k == std::string::npos) return record;
  auto parsed = nlohmann::ordered_json::parse(record, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded() || parsed["items"].size() <= k) return record;
  auto& items = parsed["items"];
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(k), items.end());
  return parsed.dump();
}

class RecommendationStreams::UserStream final : public http::EventStream {
 public:
  UserStream(RecommendationStreams& streams, std::string user, size_t k, std::string last_event_id)
      : streams_(streams), user_(std::move(user)), k_(k), sent_(std::move(last_event_id)) {
    const std::lock_guard lock(streams_.mutex_);
    streams_.streams_.emplace(user_, this);
  }
  ~UserStream() override {
    const std::lock_guard lock(streams_.mutex_);
    auto [entry, end] = streams_.streams_.equal_range(user_);
    while (entry != end && entry->second != this) ++entry;
    if (entry != end) streams_.streams_.erase(entry);
  }

 private:
  std::optional<std::string> Next() override {
    const auto found = streams_.store_.Find(user_);
    if (!found.ok()) {
      spdlog::error("serve: {}; a stream ends", found.error().message());
      return std::nullopt;
    }
    if (!*found) {
      if (sent_.empty()) return "";
      sent_.clear();
      return "id: \nevent: removed\ndata: {}\n\n";
    }
    if ((*found)->id == sent_) return "";
    sent_ = (*found)->id;
    std::string data = WithBest((*found)->record, k_);
    // JSON has these between its tokens only, and an event's data ends with the line.
    std::replace_if(
        data.begin(), data.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    return "id: " + sent_ + "\nevent: recommendations\ndata: " + data + "\n\n";
  }

  RecommendationStreams& streams_;
  const std::string user_;
  const size_t k_;
  std::string sent_;  // id of the record that the client has; empty: it has none
};

std::shared_ptr<http::EventStream> RecommendationStreams::Open(std::string user, size_t k, std::string last_event_id) {
  return std::make_shared<UserStream>(*this, std::move(user), k, std::move(last_event_id));
}

// The lock also orders: a stream that is not seen here finds these records in the store.
void RecommendationStreams::Tell(std::span<const RawRecord> records) {
  const std::lock_guard lock(mutex_);
  if (streams_.empty()) return;
  for (const RawRecord& record : records) {
    auto [entry, end] = streams_.equal_range(record.key);
    for (; entry != end; ++entry) entry->second->Wake();
  }
}

size_t RecommendationStreams::open() const {
  const std::lock_guard lock(mutex_);
  return streams_.size();
}

}  // namespace freshet
