#include "ingest/decoder.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "ingest/encoder.h"
#include "ingest/event_fields.h"

namespace freshet {
namespace {

struct FieldCodes {
  std::string_view name, missing, empty, invalid, too_long;
};
constexpr std::array<FieldCodes, kFieldCount> kCodes{{
    {"user_id", "missing_user_id", "empty_user_id", "invalid_user_id", "user_id_too_long"},
    {"item_id", "missing_item_id", "empty_item_id", "invalid_item_id", "item_id_too_long"},
    {"event_type", "", "", "invalid_event_type", "event_type_too_long"},
    {"event_id", "", "", "invalid_event_id", "event_id_too_long"},
    {"timestamp", "missing_timestamp", "missing_timestamp", "invalid_timestamp", ""},
}};

// Neither NUL nor anything beyond ASCII: true of nearly every id, and seen eight bytes at a time.
bool IsPlain(std::string_view text) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighs = 0x8080808080808080;
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if ((((word - kOnes) | word) & kHighs) != 0) return false;
  }
  for (; i < text.size(); ++i) {
    if (static_cast<signed char>(text[i]) <= 0) return false;
  }
  return true;
}

std::string_view ExpectedTime(TimeUnit unit) {
  switch (unit) {
    case TimeUnit::kSeconds:
      return "expected seconds since 1970";
    case TimeUnit::kMilliseconds:
      return "expected milliseconds since 1970";
    case TimeUnit::kMicroseconds:
      return "expected microseconds since 1970";
    case TimeUnit::kIso8601:
      return "expected an ISO 8601 time such as 2017-10-01T03:00:00Z";
  }
  return {};
}

// Which finer unit would bring a time far in the future back into ours.
std::string_view FinerUnitHint(int64_t ms, TimeUnit unit) {
  if (unit == TimeUnit::kSeconds && ms / 1000 <= kEndOfTimeMs)
    return "; if these are milliseconds, set source.mapping.timestamp.unit to ms";
  if (unit == TimeUnit::kMilliseconds && ms / 1000 <= kEndOfTimeMs)
    return "; if these are microseconds, set source.mapping.timestamp.unit to us";
  return {};
}

}  // namespace

std::string_view FieldName(int field) { return kCodes[field].name; }

std::array<const FieldMapping*, kFieldCount> FieldMappings(const EventMapping& mapping) {
  return {&mapping.user_id, &mapping.item_id, &mapping.event_type, &mapping.event_id, &mapping.timestamp};
}

bool MayBeMissing(int field, const FieldMapping& mapping) {
  const bool optional = kCodes[field].missing.empty();
  return optional && mapping.path.size() == kCodes[field].name.size() + 1 && mapping.path.ends_with(kCodes[field].name);
}

std::string Excerpt(std::string_view found) {
  constexpr size_t kMost = 80;
  std::string text = "\"";
  size_t size = std::min(found.size(), kMost);
  while (size < found.size() && size > 0 && (static_cast<unsigned char>(found[size]) & 0xC0) == 0x80) --size;
  AppendJsonEscaped(found.substr(0, size), text);
  text += found.size() > size ? "\"…" : "\"";
  return text;
}

bool IsValidUtf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

EventBuilder::EventBuilder(const DecoderOptions& options)
    : unit_(options.mapping.timestamp_unit),
      max_record_bytes_(options.max_record_bytes),
      max_id_bytes_(options.max_id_bytes) {
  const auto mappings = FieldMappings(options.mapping);
  for (int field = 0; field < kFieldCount; ++field) {
    const FieldMapping& mapping = *mappings[field];
    rules_[field] = {mapping.path, mapping.constant, {mapping.values.begin(), mapping.values.end()}};
  }
}

std::optional<DecodeFailure> EventBuilder::CheckRecord(const RawRecord& record) const {
  if (!record.damage.empty()) return DecodeFailure{"truncated_input", std::string(record.damage)};
  const size_t size = std::max(record.value.size(), static_cast<size_t>(record.oversize_bytes));
  if (size <= max_record_bytes_) return std::nullopt;
  return DecodeFailure{"record_too_large", "the record has " + std::to_string(size) + " bytes, at most " +
                                               std::to_string(max_record_bytes_) + " are accepted (source.max_record)"};
}

std::variant<Event, DecodeFailure> EventBuilder::Build(FieldTexts& fields) const {
  Replace(fields);
  for (const int field : {kUserIdField, kItemIdField, kEventTypeField, kEventIdField}) {
    if (auto failure = CheckId(field, fields[field])) return *std::move(failure);
  }
  auto time = Time(fields[kTimestampField]);
  if (auto* const failure = std::get_if<DecodeFailure>(&time)) return std::move(*failure);
  const std::string_view type = fields[kEventTypeField].text;
  return Event{.user_id = fields[kUserIdField].text,
               .item_id = fields[kItemIdField].text,
               .event_type = type.empty() ? std::string_view("view") : type,
               .event_id = fields[kEventIdField].text,
               .timestamp_ms = std::get<int64_t>(time)};
}

std::variant<Event, DecodeFailure> EventBuilder::BuildForget(const RawRecord& record) const {
  if (auto failure = CheckId(kUserIdField, {FieldText::kText, record.key})) {
    failure->message = "the key of a record without a value: " + failure->message;
    return *std::move(failure);
  }
  Event event;
  event.user_id = record.key;
  event.forget = true;
  return event;
}

void EventBuilder::Replace(FieldTexts& fields) const {
  for (int field = 0; field < kFieldCount; ++field) {
    const Rule& rule = rules_[field];
    if (rule.constant) {
      fields[field] = {FieldText::kText, *rule.constant};
    } else if (!rule.values.empty() && fields[field].state == FieldText::kText) {
      const auto value = rule.values.find(fields[field].text);
      if (value != rule.values.end()) fields[field].text = value->second;
    }
  }
}

std::optional<DecodeFailure> EventBuilder::CheckId(int field, const FieldText& found) const {
  const FieldCodes& codes = kCodes[field];
  if (found.state == FieldText::kWrongType) {
    return Fail(codes.invalid, field, "found " + std::string(found.text) + ", expected a string or a number");
  }
  if (found.text.empty()) {
    if (codes.missing.empty()) return std::nullopt;  // may be left out
    return found.state == FieldText::kAbsent ? Fail(codes.missing, field, "absent or null")
                                             : Fail(codes.empty, field, "empty");
  }
  if (found.text.size() > max_id_bytes_) {
    return Fail(codes.too_long, field,
                std::to_string(found.text.size()) + " bytes, at most " + std::to_string(max_id_bytes_) +
                    " are accepted; found " + Excerpt(found.text));
  }
  if (IsPlain(found.text)) return std::nullopt;
  if (found.text.find('\0') != std::string_view::npos) {
    return Fail(codes.invalid, field, "a NUL byte in " + Excerpt(found.text));
  }
  if (!IsValidUtf8(found.text)) return Fail("invalid_utf8", field, "not UTF-8: " + Excerpt(found.text));
  return std::nullopt;
}

std::variant<int64_t, DecodeFailure> EventBuilder::Time(const FieldText& found) const {
  constexpr int64_t kSecondsLook[] = {100'000'000, 100'000'000'000};  // 1973 to 5138, if they are seconds
  const FieldCodes& codes = kCodes[kTimestampField];
  if (found.state == FieldText::kWrongType) {
    return Fail(codes.invalid, kTimestampField,
                "found " + std::string(found.text) + ", " + std::string(ExpectedTime(unit_)));
  }
  if (found.text.empty()) return Fail(codes.missing, kTimestampField, "absent, null or empty");
  const auto ms = unit_ == TimeUnit::kIso8601 ? ParseIso8601Ms(found.text) : ParseEpochMs(found.text, unit_);
  const auto fail = [&](std::string_view code, std::string_view why) {
    return Fail(code, kTimestampField, "found " + Excerpt(found.text) + ", " + std::string(why));
  };
  if (!ms) return fail(codes.invalid, ExpectedTime(unit_));
  if (*ms < 0) return fail("timestamp_out_of_range", "which is before 1970");
  if (*ms >= kEndOfTimeMs) {
    return fail("timestamp_out_of_range", "which is after 2100" + std::string(FinerUnitHint(*ms, unit_)));
  }
  if (unit_ == TimeUnit::kMilliseconds && *ms >= kSecondsLook[0] && *ms < kSecondsLook[1]) {
    return fail("timestamp_looks_like_seconds",
                "expected milliseconds since 1970; if these are seconds, set source.mapping.timestamp.unit to s");
  }
  return *ms;
}

DecodeFailure EventBuilder::Fail(std::string_view code, int field, std::string_view message) const {
  const Rule& rule = rules_[field];
  std::string text(FieldName(field));
  if (!rule.constant) text += " (" + rule.path + ")";
  text += ": ";
  text += message;
  return {code, std::move(text)};
}

Result<bool> HasHeaderLine(const DecoderOptions& options) {
  if (options.format == RecordFormat::kJson) return false;
  if (options.format == RecordFormat::kProtobuf) {
    return Error(
        ErrorCode::kInvalidArgument,
        "source.format: protobuf: log files have lines, and such a record has none; expected json, csv or tsv");
  }
  const EventMapping& mapping = options.mapping;
  for (const FieldMapping* const field : {&mapping.user_id, &mapping.item_id, &mapping.timestamp}) {
    if (!field->constant && !ColumnNumber(*field)) return true;
  }
  return false;
}

Result<std::unique_ptr<EventDecoder>> MakeDecoder(const DecoderOptions& options) {
  switch (options.format) {
    case RecordFormat::kJson:
      return MakeJsonDecoder(options);
    case RecordFormat::kProtobuf:
      return MakeProtobufDecoder(options);
    default:
      return MakeDelimitedDecoder(options);
  }
}

}  // namespace freshet
