// Bytes to events. Pure: no clock, no I/O; what a record says is all it looks at.
//
// Threads: one owner each (it keeps parser memory). In steady state it allocates nothing per event.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "core/arena.h"
#include "core/event.h"
#include "core/result.h"
#include "ingest/record.h"
#include "ingest/timestamp.h"

namespace freshet {

enum class RecordFormat { kJson, kCsv, kTsv, kProtobuf };

// Where a field of an event is. `path` is a JSON pointer ("/user_id"), for Protobuf the names of fields one inside of
// the other in the same form, or for CSV/TSV a column name ("user_id"; a
// leading slash is ignored) or, for records without a header line, a column's number from 0.
struct FieldMapping {
  std::string path;
  std::optional<std::string> constant;        // this text, whatever the record says
  std::map<std::string, std::string> values;  // replaced values; others stay as they are
};

struct EventMapping {
  FieldMapping user_id{"/user_id", {}, {}};
  FieldMapping item_id{"/item_id", {}, {}};
  FieldMapping event_type{"/event_type", {}, {}};  // absent in a record: "view"
  FieldMapping event_id{"/event_id", {}, {}};      // absent in a record: empty
  FieldMapping timestamp{"/timestamp", {}, {}};
  TimeUnit timestamp_unit = TimeUnit::kMilliseconds;
};

// Which message a Protobuf record is: freshet.v1.Event of docs/schemas/event.proto, or another.
struct ProtobufOptions {
  std::string descriptor_set;  // a file of protoc --include_imports --descriptor_set_out; empty: freshet.v1.Event
  std::string message;         // full name, e.g. shop.v1.Click
};

struct DecoderOptions {
  RecordFormat format = RecordFormat::kJson;
  EventMapping mapping;
  ProtobufOptions protobuf;
  size_t max_record_bytes = 1 << 20;  // a longer record is a dead letter
  size_t max_id_bytes = 1024;         // so is a longer user, item, event id or type
};

// Why a record is not an event. `code` is a short stable word (the header freshet.error and a metric label, e.g.
// "invalid_json", "missing_user_id", "timestamp_out_of_range"); `message` names field, found and expected, with at most
// 80 bytes of the found.
struct DecodeFailure {
  std::string_view code;
  std::string message;
};

class EventDecoder {
 public:
  virtual ~EventDecoder() = default;

  // The event, its views in `record`, in `arena` or in the decoder; or why there is none. `record` has
  // Arena::kPadding readable bytes behind its value, as everything in a batch's arena has.
  // Ids must be non-empty valid UTF-8 without NUL, at most max_id_bytes; JSON numbers become their digits as written.
  // Times: negative, beyond 2100-01-01, not a number, or (unit ms) within [1e8, 1e11), which is what seconds look like,
  // are refused. A tombstone (RawRecord::IsTombstone()) is the wish to forget the user who is its key, an id likewise.
  virtual std::variant<Event, DecodeFailure> Decode(const RawRecord& record, Arena& arena) = 0;

  // Error where a file with this header line (CSV/TSV) lacks a column that the mapping needs; it names the columns that
  // are there. event_type and event_id are needed only where they are mapped to another name than their own.
  virtual Status CheckHeader(std::string_view header) const {
    (void)header;
    return {};
  }
};

// Whether files of this format and mapping begin with a header line: CSV/TSV whose user, item or time is mapped by a
// column's name. Error for a format that has no lines.
Result<bool> HasHeaderLine(const DecoderOptions& options);

// Error where a mapping path is not a JSON pointer; of Protobuf also where the descriptor set cannot be read, or holds
// no such message or no such fields of a type that makes an id or a time.
Result<std::unique_ptr<EventDecoder>> MakeDecoder(const DecoderOptions& options);

}  // namespace freshet
