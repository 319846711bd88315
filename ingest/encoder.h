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

// Recommendations as JSON, one object without a line end (the form in docs/records.md). Scores are the shortest decimal
// that gives the same float back. Immutable: any number of threads may encode.
class RecommendationEncoder {
 public:
  // `item_ids` by row; copied in escaped form.
  RecommendationEncoder(std::string_view model_name, std::string_view model_version,
                        std::span<const std::string> item_ids);

  // Appends to `out`.
  void Encode(const Recommendation& recommendation, std::string& out) const;

 private:
  std::string model_;                    // ,"model":{…},"source":{"topic":
  std::vector<std::string> item_heads_;  // {"item_id":"…","score":   by row
};

// The dead letter of `record`: original key and bytes; headers freshet.error, .message, .topic, .partition, .offset
// (and .truncated_bytes where the sink holds only the beginning).
OutputRecord MakeDeadLetter(const RawRecord& record, const DecodeFailure& failure);

// A dead letter as one JSON object, for files: {"error","message","topic","partition","offset","key","value"}; a key or
// value that is not UTF-8 is given as "key_base64" / "value_base64". Appends to `out`, without a line end.
void EncodeDeadLetter(const OutputRecord& dead_letter, std::string& out);

// `text` as the inside of a JSON string, appended to `out`.
void AppendJsonEscaped(std::string_view text, std::string& out);

}  // namespace freshet
