// Recommendations as Protobuf. The encoder writes the bytes that the generated code would: a test compares them.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/wire_format_lite.h>
#include <recommendation.pb.h>

#include <algorithm>
#include <bit>

#include "ingest/encoder.h"

namespace freshet {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;
using Message = v1::Recommendation;

constexpr size_t kMaxVarintBytes = 10;
constexpr size_t kMaxItemBytes = 2 * kMaxVarintBytes + 5;  // tag, size and score around its head

void AppendVarint(uint64_t value, std::string& out) {
  uint8_t bytes[kMaxVarintBytes];
  out.append(bytes, CodedOutputStream::WriteVarint64ToArray(value, bytes));
}

void AppendTag(int field, WireFormatLite::WireType type, std::string& out) {
  AppendVarint(WireFormatLite::MakeTag(field, type), out);
}

// Fields that are zero or empty are left out, as proto3 has it.
void AppendInteger(int field, int64_t value, std::string& out) {
  if (value == 0) return;
  AppendTag(field, WireFormatLite::WIRETYPE_VARINT, out);
  AppendVarint(static_cast<uint64_t>(value), out);
}

void AppendBytes(int field, std::string_view bytes, std::string& out) {
  AppendTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED, out);
  AppendVarint(bytes.size(), out);
  out += bytes;
}

void AppendText(int field, std::string_view text, std::string& out) {
  if (!text.empty()) AppendBytes(field, text, out);
}

void AppendFloat(float value, std::string& out) {
  uint8_t bytes[sizeof(value)];
  out.append(bytes, CodedOutputStream::WriteLittleEndian32ToArray(std::bit_cast<uint32_t>(value), bytes));
}

}  // namespace

ProtobufRecommendationEncoder::ProtobufRecommendationEncoder(std::string_view model_name,
                                                             std::string_view model_version,
                                                             std::span<const std::string> item_ids, int schema_id) {
  if (schema_id > 0) {
    for (const int shift : {32, 24, 16, 8, 0}) envelope_ += static_cast<char>(int64_t{schema_id} >> shift & 0xFF);
    envelope_ += '\0';  // the first message of its file
  }
  std::string model;
  AppendText(Message::Model::kNameFieldNumber, model_name, model);
  AppendText(Message::Model::kVersionFieldNumber, model_version, model);
  AppendBytes(Message::kModelFieldNumber, model, model_);
  std::string head;
  for (const std::string& id : item_ids) {
    head.clear();
    AppendText(Message::Item::kItemIdFieldNumber, id, head);
    heads_.Add(head);
  }
}

void ProtobufRecommendationEncoder::Encode(const Recommendation& recommendation, std::string& out) const {
  out += envelope_;
  AppendText(Message::kUserIdFieldNumber, recommendation.user_id, out);
  AppendInteger(Message::kGeneratedAtFieldNumber, recommendation.generated_at_ms, out);
  AppendInteger(Message::kSequenceNumberFieldNumber, recommendation.sequence_number, out);
  out += model_;
  thread_local std::string source;
  source.clear();
  AppendText(Message::Source::kTopicFieldNumber, recommendation.topic, source);
  AppendInteger(Message::Source::kPartitionFieldNumber, Raw(recommendation.partition), source);
  AppendInteger(Message::Source::kOffsetFieldNumber, Raw(recommendation.offset), source);
  AppendInteger(Message::Source::kEventTimeFieldNumber, recommendation.event_time_ms, source);
  AppendBytes(Message::kSourceFieldNumber, source, out);
  for (const ScoredItem& item : recommendation.items) {
    const std::string_view head = heads_[item.row];
    const bool has_score = std::bit_cast<uint32_t>(item.score) != 0;
    AppendTag(Message::kItemsFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED, out);
    AppendVarint(head.size() + (has_score ? 1 + sizeof(item.score) : 0), out);
    out += head;
    if (!has_score) continue;
    AppendTag(Message::Item::kScoreFieldNumber, WireFormatLite::WIRETYPE_FIXED32, out);
    AppendFloat(item.score, out);
  }
  if (recommendation.user_vector.empty()) return;
  AppendTag(Message::kUserVectorFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED, out);
  AppendVarint(recommendation.user_vector.size() * sizeof(float), out);
  for (const float value : recommendation.user_vector) AppendFloat(value, out);
}

size_t ProtobufRecommendationEncoder::MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items,
                                               size_t dim) const {
  constexpr size_t kNumbers = 16;  // tags, sizes and integers around everything else; there are fewer
  items = std::min(items, heads_.size());
  return envelope_.size() + model_.size() + user_id_bytes + topic.size() + kNumbers * kMaxVarintBytes +
         items * kMaxItemBytes + heads_.MaxBytes(items) + dim * sizeof(float);
}

bool RecommendationToJson(std::string_view record, std::string& out) {
  constexpr size_t kEnvelope = 6;  // as the encoder writes it
  if (record.starts_with('\0')) record.remove_prefix(std::min(kEnvelope, record.size()));
  const google::protobuf::LogSilencer silencer;  // the library tells stderr of each text that is not UTF-8
  Message message;
  if (!message.ParseFromArray(record.data(), static_cast<int>(record.size()))) return false;
  std::vector<std::string> ids;
  std::vector<ScoredItem> items;
  for (const Message::Item& item : message.items()) {
    items.push_back({ItemRow{static_cast<uint32_t>(ids.size())}, item.score()});
    ids.push_back(item.item_id());
  }
  const JsonRecommendationEncoder json(message.model().name(), message.model().version(), ids);
  json.Encode({.user_id = message.user_id(),
               .generated_at_ms = message.generated_at(),
               .sequence_number = message.sequence_number(),
               .topic = message.source().topic(),
               .partition = PartitionId{message.source().partition()},
               .offset = Offset{message.source().offset()},
               .event_time_ms = message.source().event_time(),
               .items = items,
               .user_vector = {message.user_vector().data(), static_cast<size_t>(message.user_vector_size())}},
              out);
  return true;
}

}  // namespace freshet
