// What the decoders of all formats share: the fields of a record as text, and the checks that make an Event of them.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/event.h"
#include "ingest/decoder.h"
#include "ingest/record.h"

namespace freshet {

enum FieldIndex { kUserIdField, kItemIdField, kEventTypeField, kEventIdField, kTimestampField, kFieldCount };

// A field as a record gives it. Numbers are their digits as written.
struct FieldText {
  enum State { kAbsent, kText, kWrongType };
  State state = kAbsent;
  std::string_view text;  // kWrongType: what was found, for the message
};
using FieldTexts = std::array<FieldText, kFieldCount>;

std::string_view FieldName(int field);
// The mappings by FieldIndex.
std::array<const FieldMapping*, kFieldCount> FieldMappings(const EventMapping& mapping);

// Whether a record, or its header line or schema, may lack the field: it is optional, and mapped to its own name.
bool MayBeMissing(int field, const FieldMapping& mapping);

// The column's name or number in a CSV/TSV mapping: the path without its leading slash.
std::string_view ColumnName(const FieldMapping& mapping);
// The number, where the path is one.
std::optional<size_t> ColumnNumber(const FieldMapping& mapping);

// `found` in quotes for a message: at most 80 bytes, control characters escaped, always valid UTF-8.
std::string Excerpt(std::string_view found);

bool IsValidUtf8(std::string_view text);

// Immutable.
class EventBuilder {
 public:
  explicit EventBuilder(const DecoderOptions& options);

  // Why the record cannot even be looked at: the input broke off in it, or it is too large.
  std::optional<DecodeFailure> CheckRecord(const RawRecord& record) const;

  // Of a tombstone: its key's user is to be forgotten.
  std::variant<Event, DecodeFailure> BuildForget(const RawRecord& record) const;

  // Applies constants and value maps, then the rules of EventDecoder::Decode(). Views in the texts or in the builder.
  std::variant<Event, DecodeFailure> Build(FieldTexts& fields) const;

 private:
  struct Rule {
    std::string path;
    std::optional<std::string> constant;
    std::map<std::string, std::string, std::less<>> values;
  };

  void Replace(FieldTexts& fields) const;
  std::optional<DecodeFailure> CheckId(int field, const FieldText& found) const;
  std::variant<int64_t, DecodeFailure> Time(const FieldText& found) const;
  DecodeFailure Fail(std::string_view code, int field, std::string_view message) const;

  std::array<Rule, kFieldCount> rules_;
  TimeUnit unit_;
  size_t max_record_bytes_;
  size_t max_id_bytes_;
};

// The decoders, see MakeDecoder().
Result<std::unique_ptr<EventDecoder>> MakeJsonDecoder(const DecoderOptions& options);
Result<std::unique_ptr<EventDecoder>> MakeDelimitedDecoder(const DecoderOptions& options);
Result<std::unique_ptr<EventDecoder>> MakeProtobufDecoder(const DecoderOptions& options);

}  // namespace freshet
