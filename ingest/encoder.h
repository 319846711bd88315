// Recommendations and dead letters to bytes. Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/recommendation.h"
#include "ingest/decoder.h"
#include "ingest/record.h"

namespace freshet {

// Recommendations as JSON, one object without a line end (the form in docs/records.md). Scores have the fewest digits
// that give the same float back. Immutable: any number of threads may encode.
class RecommendationEncoder {
 public:
  // `item_ids` by row; copied in escaped form.
  RecommendationEncoder(std::string_view model_name, std::string_view model_version,
                        std::span<const std::string> item_ids);

  // No more than this for `items` of them, with a user id of so many bytes and a user vector of `dim` (0: none).
  size_t MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items, size_t dim) const;

  // Appends to `out`. REQUIRES: rows below the number of item ids. A score that is not finite becomes null.
  void Encode(const Recommendation& recommendation, std::string& out) const;

 private:
  std::string_view ItemHead(ItemRow row) const;
  void AppendItems(std::span<const ScoredItem> items, std::string& out) const;

  std::string model_;              // ,"model":{…},"source":{"topic":"
  std::string item_heads_;         // of every row, one behind the other: ,{"item_id":"…","score":
  std::vector<size_t> head_ends_;  // by row
};

// The dead letter of `record`: original key and bytes, as views of the record; headers freshet.error, .message, .topic,
// .partition, .offset, and .truncated_bytes, the size of the original, where its value is only the beginning.
OutputRecord MakeDeadLetter(const RawRecord& record, const DecodeFailure& failure);

// A dead letter as one JSON object, for files: {"error","message","topic","partition","offset","key","value"}; a key or
// value that is not UTF-8 is given as "key_base64" / "value_base64". "truncated_bytes" where the header is there.
// Appends to `out`, without a line end.
void EncodeDeadLetter(const OutputRecord& dead_letter, std::string& out);

// `text` as the inside of a JSON string, appended to `out`. Bytes that are not UTF-8 become U+FFFD.
void AppendJsonEscaped(std::string_view text, std::string& out);

}  // namespace freshet
