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

// Immutable: any number of threads may encode.
class RecommendationEncoder {
 public:
  virtual ~RecommendationEncoder() = default;

  // No more than this for `items` of them, with a user id of so many bytes and a user vector of `dim` (0: none).
  virtual size_t MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items, size_t dim) const = 0;

  // Appends to `out`. REQUIRES: rows below the number of item ids.
  virtual void Encode(const Recommendation& recommendation, std::string& out) const = 0;
};

// What is said of each item besides its score, one row behind the other.
class ItemHeads {
 public:
  void Add(std::string_view head);  // of the next row
  std::string_view operator[](ItemRow row) const;
  size_t size() const { return ends_.size(); }
  // Bytes of the `items` longest.
  size_t MaxBytes(size_t items) const;

 private:
  std::string heads_;
  std::vector<size_t> ends_;  // by row
};

// JSON, one object without a line end (the form in docs/records.md). Scores have the fewest digits that give the same
// float back; one that is not finite becomes null.
class JsonRecommendationEncoder : public RecommendationEncoder {
 public:
  // `item_ids` by row; copied in escaped form.
  JsonRecommendationEncoder(std::string_view model_name, std::string_view model_version,
                            std::span<const std::string> item_ids);

  size_t MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items, size_t dim) const override;
  void Encode(const Recommendation& recommendation, std::string& out) const override;

 private:
  void AppendItems(std::span<const ScoredItem> items, std::string& out) const;

  std::string model_;  // ,"model":{…},"source":{"topic":"
  ItemHeads heads_;    // ,{"item_id":"…","score":
};

// freshet.v1.Recommendation of docs/schemas/recommendation.proto. With a `schema_id` above 0 in Confluent's wire
// format, which names the schema by its id in the registry; else the message alone.
class ProtobufRecommendationEncoder : public RecommendationEncoder {
 public:
  ProtobufRecommendationEncoder(std::string_view model_name, std::string_view model_version,
                                std::span<const std::string> item_ids, int schema_id);

  size_t MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items, size_t dim) const override;
  void Encode(const Recommendation& recommendation, std::string& out) const override;

 private:
  std::string envelope_;  // what stands before the message
  std::string model_;     // the field `model`
  ItemHeads heads_;       // the field `item_id` of an Item
};

// A record of the recommendation topic in Protobuf, bare or in Confluent's wire format, as the JSON that
// JsonRecommendationEncoder makes, appended to `out`. False, and nothing appended: it is none.
bool RecommendationToJson(std::string_view record, std::string& out);

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
