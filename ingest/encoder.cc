#include "ingest/encoder.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "ingest/number_text.h"

namespace freshet {
namespace {

// Bytes that stand for themselves inside a JSON string.
constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}();

// Length of the UTF-8 sequence at the front of `text`, whose first byte is >= 0x80; 0 where there is none.
size_t Utf8Length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  return length <= text.size() && simdjson::validate_utf8(text.data(), length) ? length : 0;
}

void AppendEscape(char c, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
    case '\\':
      out += {'\\', c};
      break;
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    default:
      out += "\\u00";
      out += {kHex[static_cast<unsigned char>(c) >> 4], kHex[c & 15]};
  }
}

void AppendInteger(int64_t value, std::string& out) {
  char text[kMaxNumberBytes];
  out.append(text, WriteInteger(value, text));
}

void AppendString(std::string_view name, std::string_view value, std::string& out) {
  out += name;
  AppendJsonEscaped(value, out);
  out += '"';
}

void AppendVector(std::span<const float> values, std::string& out) {
  out += ",\"user_vector\":[";
  char text[kMaxNumberBytes];
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    out.append(text, WriteFloat(values[i], text));
  }
  out += ']';
}

void AppendBase64(std::string_view bytes, std::string& out) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += j <= count ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
}

void AppendBytes(std::string_view name, std::string_view bytes, std::string& out) {
  out += ",\"";
  out += name;
  const bool text = simdjson::validate_utf8(bytes.data(), bytes.size());
  out += text ? "\":\"" : "_base64\":\"";
  if (text) {
    AppendJsonEscaped(bytes, out);
  } else {
    AppendBase64(bytes, out);
  }
  out += '"';
}

constexpr std::string_view kHeaderPrefix = "freshet.";

}  // namespace

void AppendJsonEscaped(std::string_view text, std::string& out) {
  size_t plain = 0;  // where the bytes begin that are not appended yet
  for (size_t i = 0; i < text.size();) {
    if (kPlain[static_cast<unsigned char>(text[i])]) {
      ++i;
      continue;
    }
    const bool ascii = static_cast<signed char>(text[i]) >= 0;
    const size_t length = ascii ? 0 : Utf8Length(text.substr(i));
    if (length > 0) {
      i += length;
      continue;
    }
    out.append(text, plain, i - plain);
    if (ascii) {
      AppendEscape(text[i], out);
    } else {
      out += "\xEF\xBF\xBD";
    }
    plain = ++i;
  }
  out.append(text, plain);
}

void ItemHeads::Add(std::string_view head) {
  heads_ += head;
  ends_.push_back(heads_.size());
}

std::string_view ItemHeads::operator[](ItemRow row) const {
  assert(Raw(row) < ends_.size());
  const size_t begin = Raw(row) == 0 ? 0 : ends_[Raw(row) - 1];
  return {heads_.data() + begin, ends_[Raw(row)] - begin};
}

size_t ItemHeads::MaxBytes(size_t items) const {
  std::vector<size_t> sizes;
  for (uint32_t row = 0; row < ends_.size(); ++row) sizes.push_back((*this)[ItemRow{row}].size());
  const auto end = sizes.begin() + static_cast<std::ptrdiff_t>(std::min(items, sizes.size()));
  std::partial_sort(sizes.begin(), end, sizes.end(), std::greater());
  return std::accumulate(sizes.begin(), end, size_t{0});
}

JsonRecommendationEncoder::JsonRecommendationEncoder(std::string_view model_name, std::string_view model_version,
                                                     std::span<const std::string> item_ids) {
  AppendString(",\"model\":{\"name\":\"", model_name, model_);
  AppendString(",\"version\":\"", model_version, model_);
  model_ += "},\"source\":{\"topic\":\"";
  std::string head;
  for (const std::string& id : item_ids) {
    head.clear();
    AppendString(",{\"item_id\":\"", id, head);
    head += ",\"score\":";
    heads_.Add(head);
  }
}

void JsonRecommendationEncoder::Encode(const Recommendation& recommendation, std::string& out) const {
  AppendString("{\"user_id\":\"", recommendation.user_id, out);
  out += ",\"generated_at\":";
  AppendInteger(recommendation.generated_at_ms, out);
  out += ",\"sequence_number\":";
  AppendInteger(recommendation.sequence_number, out);
  AppendString(model_, recommendation.topic, out);
  out += ",\"partition\":";
  AppendInteger(Raw(recommendation.partition), out);
  out += ",\"offset\":";
  AppendInteger(Raw(recommendation.offset), out);
  out += ",\"event_time\":";
  AppendInteger(recommendation.event_time_ms, out);
  out += "},\"items\":[";
  AppendItems(recommendation.items, out);
  out += ']';
  if (!recommendation.user_vector.empty()) AppendVector(recommendation.user_vector, out);
  out += '}';
}

size_t JsonRecommendationEncoder::MaxBytes(size_t user_id_bytes, std::string_view topic, size_t items,
                                           size_t dim) const {
  constexpr size_t kEscaped = 6;  // of a byte: \u0001
  constexpr auto kLongest = std::numeric_limits<int64_t>::min();
  const std::vector<float> vector(std::min<size_t>(dim, 1));
  std::string head;
  Encode({.user_id = {},
          .generated_at_ms = kLongest,
          .sequence_number = kLongest,
          .topic = topic,
          .partition = PartitionId{std::numeric_limits<int32_t>::min()},
          .offset = Offset{kLongest},
          .event_time_ms = kLongest,
          .items = {},
          .user_vector = vector},
         head);
  items = std::min(items, heads_.size());
  return head.size() + kEscaped * user_id_bytes + (dim + items) * (kMaxNumberBytes + 1) + heads_.MaxBytes(items);
}

void JsonRecommendationEncoder::AppendItems(std::span<const ScoredItem> items, std::string& out) const {
  const size_t before = out.size();
  size_t most = before;
  for (const ScoredItem& item : items) most += heads_[item.row].size() + kMaxNumberBytes + 1;
  out.resize(most);
  char* to = out.data() + before;
  bool first = true;
  for (const ScoredItem& item : items) {
    std::string_view head = heads_[item.row];
    if (std::exchange(first, false)) head.remove_prefix(1);  // the comma
    std::memcpy(to, head.data(), head.size());
    to = WriteFloat(item.score, to + head.size());
    *to++ = '}';
  }
  out.resize(static_cast<size_t>(to - out.data()));
}

OutputRecord MakeDeadLetter(const RawRecord& record, const DecodeFailure& failure) {
  OutputRecord letter{.stream = Stream::kDeadLetters, .key = record.key, .value = record.value, .headers = {}};
  letter.headers = {{"freshet.error", std::string(failure.code)},
                    {"freshet.message", failure.message},
                    {"freshet.topic", std::string(record.topic)},
                    {"freshet.partition", std::to_string(Raw(record.shown_partition))},
                    {"freshet.offset", std::to_string(Raw(record.shown_offset))}};
  if (record.oversize_bytes > 0) {
    letter.headers.emplace_back("freshet.truncated_bytes", std::to_string(record.oversize_bytes));
  }
  return letter;
}

void EncodeDeadLetter(const OutputRecord& dead_letter, std::string& out) {
  char separator = '{';
  for (const auto& [name, value] : dead_letter.headers) {
    if (!std::string_view(name).starts_with(kHeaderPrefix)) continue;
    const std::string_view field = std::string_view(name).substr(kHeaderPrefix.size());
    out += separator;
    separator = ',';
    AppendString("\"", field, out);
    if (field == "partition" || field == "offset" || field == "truncated_bytes") {
      out += ':';
      out += value;
    } else {
      AppendString(":\"", value, out);
    }
  }
  AppendBytes("key", dead_letter.key, out);
  AppendBytes("value", dead_letter.value, out);
  out += '}';
}

}  // namespace freshet
