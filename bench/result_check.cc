#include "bench/result_check.h"

#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "inference/engine.h"
#include "inference/ranker.h"
#include "pipeline/clickstream.h"

namespace freshet::bench {
namespace {

// The law's 1e-5 of the greatest score, and as much again for the product with the catalogue.
constexpr float kTolerance = 2e-5f;

Error Wrong(const std::string& what) { return Error(ErrorCode::kInternal, "wrong result: " + what); }

struct Record {
  std::string user_id;
  int64_t sequence_number = 0;
  std::vector<std::pair<std::string, float>> items;
};

class RecordParser {
 public:
  // `with_items`: else they are left out, which is faster.
  bool Parse(const std::string& line, bool with_items, Record& record) {
    text_ = simdjson::padded_string(line);
    simdjson::ondemand::document document;
    std::string_view user;
    if (parser_.iterate(text_).get(document) || document["user_id"].get_string().get(user)) return false;
    record.user_id = user;
    if (document["sequence_number"].get_int64().get(record.sequence_number)) return false;
    record.items.clear();
    if (!with_items) return true;
    simdjson::ondemand::array items;
    if (document["items"].get_array().get(items)) return false;
    for (auto item : items) {
      std::string_view id;
      double score = 0;
      if (item["item_id"].get_string().get(id) || item["score"].get_double().get(score)) return false;
      record.items.emplace_back(id, static_cast<float>(score));
    }
    return true;
  }

 private:
  simdjson::ondemand::parser parser_;
  simdjson::padded_string text_;
};

class Reference {
 public:
  Reference(const EventLog& log, const Model& model, int top_k) : log_(log), model_(model), top_k_(top_k) {
    for (size_t user = 0; user < log.users.size(); ++user) users_[log.users[user].user_id] = user;
    const auto& ids = model.vocabulary.item_ids();
    for (uint32_t row = 0; row < ids.size(); ++row) rows_[ids[row]] = row;
  }

  Status Check(const Record& record) const {
    const std::string where = "user " + record.user_id + ", record " + std::to_string(record.sequence_number);
    const auto user = users_.find(record.user_id);
    if (user == users_.end()) return Wrong(where + ": no such user");
    const std::vector<ModelToken>& all = log_.users[user->second].tokens;
    const auto count = static_cast<size_t>(record.sequence_number);
    if (count > all.size()) return Wrong(where + ": more records than events");
    const std::span<const ModelToken> prefix(all.data(), count);
    const std::vector<float> outputs = FullForward(model_, prefix);
    const float* const newest = &outputs[(count - 1) * static_cast<size_t>(model_.config.dim)];

    std::vector<ItemRow> seen;
    for (const ModelToken& token : prefix.last(std::min(count, model_.config.exact_history())))
      seen.push_back(token.item);
    std::vector<ScoredItem> every(model_.vocabulary.item_ids().size());
    RankRequest request = {newest, seen, every};
    TopKPlain(model_, {&request, 1});
    return Compare(where, record, std::span(every).first(request.found));
  }

 private:
  // Rank by rank the same score, and each item its own: items of one score may change places.
  Status Compare(const std::string& where, const Record& record, std::span<const ScoredItem> every) const {
    if (record.items.size() != std::min(every.size(), static_cast<size_t>(top_k_))) {
      return Wrong(where + ": " + std::to_string(record.items.size()) + " items");
    }
    std::unordered_map<uint32_t, float> scores;
    float greatest = 0;
    for (const ScoredItem& item : every) {
      scores[Raw(item.row)] = item.score;
      greatest = std::max(greatest, std::abs(item.score));
    }
    for (size_t i = 0; i < record.items.size(); ++i) {
      const auto& [id, score] = record.items[i];
      const auto row = rows_.find(id);
      const auto own = row == rows_.end() ? scores.end() : scores.find(row->second);
      const bool same = own != scores.end() && std::abs(own->second - score) <= kTolerance * greatest &&
                        std::abs(every[i].score - score) <= kTolerance * greatest;
      if (!same) return Wrong(where + ": item " + id + ", place " + std::to_string(i + 1));
    }
    return {};
  }

  const EventLog& log_;
  const Model& model_;
  const int top_k_;
  std::unordered_map<std::string, size_t> users_;
  std::unordered_map<std::string, uint32_t> rows_;
};

}  // namespace

Status CheckOutput(const std::filesystem::path& output, const EventLog& log, const Model& model,
                   const CheckOptions& options) {
  SplitMix random(options.seed);
  std::set<int64_t> sample;
  for (int n = 0; n < options.samples; ++n) sample.insert(random.Below(static_cast<uint64_t>(options.records)));
  const Reference reference(log, model, options.top_k);
  RecordParser parser;
  Record record;
  std::unordered_map<std::string, int64_t> newest;
  std::ifstream in(output);
  int64_t records = 0;
  for (std::string line; std::getline(in, line); ++records) {
    const bool chosen = sample.contains(records);
    if (!parser.Parse(line, chosen, record)) return Wrong("record " + std::to_string(records) + " is not one");
    const auto [before, first] = newest.try_emplace(record.user_id, record.sequence_number - 1);
    if ((first && options.from_first && record.sequence_number != 1) || record.sequence_number != before->second + 1) {
      return Wrong("user " + record.user_id + ": record " + std::to_string(record.sequence_number) + " follows " +
                   std::to_string(before->second));
    }
    before->second = record.sequence_number;
    if (chosen) RETURN_IF_ERROR(reference.Check(record));
  }
  if (records == options.records) return {};
  return Wrong(std::to_string(records) + " records, expected " + std::to_string(options.records));
}

}  // namespace freshet::bench
