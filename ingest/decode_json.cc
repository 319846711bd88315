// JSON records with simdjson's DOM parser, which checks the whole document and its UTF-8 before anything is taken.
//
// Numbers are taken as written: integers of up to 64 bits are printed back, all other numbers are found in the text.
#include <simdjson.h>

#include <charconv>
#include <cstring>
#include <vector>

#include "ingest/event_fields.h"
#include "ingest/json_scan.h"

namespace freshet {
namespace {

static_assert(simdjson::SIMDJSON_PADDING <= Arena::kPadding);

constexpr size_t kMaxDepth = 128;
constexpr size_t kMaxPointerSegments = 16;

using Pointer = std::vector<std::string>;

// The segments of an RFC 6901 pointer.
Result<Pointer> CompilePointer(std::string_view path, std::string_view field) {
  const auto refuse = [&](const char* expected) {
    return Error(ErrorCode::kInvalidArgument, "source.mapping." + std::string(field) + ": " + Excerpt(path) +
                                                  ": expected " + expected + " such as /user_id");
  };
  if (path.empty() || path.front() != '/') return refuse("a JSON pointer");
  Pointer segments(1);
  for (size_t i = 1; i < path.size(); ++i) {
    if (path[i] == '/') {
      segments.emplace_back();
    } else if (path[i] != '~') {
      segments.back() += path[i];
    } else if (++i < path.size() && (path[i] == '0' || path[i] == '1')) {
      segments.back() += path[i] == '0' ? '~' : '/';
    } else {
      return refuse("~0 or ~1 after a ~ in a JSON pointer");
    }
  }
  if (segments.size() > kMaxPointerSegments) return refuse("a JSON pointer of at most 16 segments");
  return segments;
}

std::string_view TypeName(simdjson::dom::element_type type) {
  switch (type) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

class JsonDecoder : public EventDecoder {
 public:
  JsonDecoder(const DecoderOptions& options, std::array<Pointer, kFieldCount> pointers)
      : builder_(options), pointers_(std::move(pointers)) {
    for (int field = 0; field < kFieldCount; ++field) {
      if (FieldMappings(options.mapping)[field]->constant) continue;
      (pointers_[field].size() == 1 ? members_ : nested_).push_back(field);
    }
  }

  std::variant<Event, DecodeFailure> Decode(const RawRecord& record, Arena& arena) override {
    if (auto failure = builder_.CheckRecord(record)) return *std::move(failure);
    if (record.IsTombstone()) return builder_.BuildForget(record);
    simdjson::dom::element root;
    if (const auto error = Parse(record.value, arena, root)) return Describe(error, record.value);
    simdjson::dom::object object;
    if (root.get_object().get(object)) {
      return DecodeFailure{"not_an_object", "found " + std::string(TypeName(root.type())) + ", expected a JSON object"};
    }
    FieldTexts fields{};
    TakeMembers(object, record.value, arena, fields);
    for (const int field : nested_) TakeNested(root, field, record.value, arena, fields);
    return builder_.Build(fields);
  }

 private:
  simdjson::error_code ParseBytes(const char* bytes, size_t size, simdjson::dom::element& root) {
    if (parser_.max_depth() != kMaxDepth) {
      if (const auto error = parser_.allocate(1024, kMaxDepth)) return error;
    }
    return parser_.parse(bytes, size, false).get(root);
  }

  // The parser refuses integers beyond 64 bits; as ids they are fine, so they are masked and taken from the text.
  simdjson::error_code Parse(std::string_view json, Arena& arena, simdjson::dom::element& root) {
    const auto error = ParseBytes(json.data(), json.size(), root);
    if (!error || json.empty() || error == simdjson::UTF8_ERROR) return error;
    char* const copy = arena.Allocate(json.size());
    std::memcpy(copy, json.data(), json.size());
    return MaskLongIntegers(copy, json.size()) ? ParseBytes(copy, json.size(), root) : error;
  }

  // The parser does not tell the place of a mistake.
  static DecodeFailure Describe(simdjson::error_code error, std::string_view json) {
    if (error == simdjson::UTF8_ERROR) return {"invalid_utf8", "the record is not UTF-8"};
    return {"invalid_json", "found " + std::to_string(json.size()) + " bytes, " + Excerpt(json) +
                                ", expected one whole JSON object, at most " + std::to_string(kMaxDepth) +
                                " levels deep, and nothing behind it: " + simdjson::error_message(error)};
  }

  // One pass for all fields that are members of the root; of a repeated member the first counts.
  void TakeMembers(simdjson::dom::object object, std::string_view json, Arena& arena, FieldTexts& fields) {
    size_t missing = members_.size();
    uint32_t taken = 0;
    path_.assign(1, 0);
    for (const auto member : object) {
      if (missing == 0) return;
      for (const int field : members_) {
        if ((taken >> field & 1) != 0 || member.key != pointers_[field][0]) continue;
        fields[field] = Text(member.value, json, arena);
        taken |= 1u << field;
        --missing;
      }
      ++path_[0];
    }
  }

  void TakeNested(simdjson::dom::element at, int field, std::string_view json, Arena& arena, FieldTexts& fields) {
    path_.clear();
    for (const std::string& segment : pointers_[field]) {
      if (!Descend(segment, at)) return;
    }
    fields[field] = Text(at, json, arena);
  }

  // Moves `at` to its child `segment` and notes the child's number; false where there is none.
  bool Descend(const std::string& segment, simdjson::dom::element& at) {
    uint32_t number = 0;
    simdjson::dom::object object;
    if (!at.get_object().get(object)) {
      for (const auto member : object) {
        if (member.key == segment) {
          at = member.value;
          path_.push_back(number);
          return true;
        }
        ++number;
      }
      return false;
    }
    simdjson::dom::array array;
    if (at.get_array().get(array)) return false;
    const auto [end, error] = std::from_chars(segment.data(), segment.data() + segment.size(), number);
    if (error != std::errc() || end != segment.data() + segment.size() || number >= array.size()) return false;
    if (array.at(number).get(at)) return false;
    path_.push_back(number);
    return true;
  }

  // A scalar as text that outlives the parser's next document. path_ leads to it.
  FieldText Text(simdjson::dom::element value, std::string_view json, Arena& arena) const {
    switch (value.type()) {
      case simdjson::dom::element_type::STRING:
        return {FieldText::kText, arena.Copy(std::string_view(value))};
      case simdjson::dom::element_type::INT64:
        return Integer(int64_t(value), json, arena);
      case simdjson::dom::element_type::UINT64:
        return Integer(uint64_t(value), json, arena);
      case simdjson::dom::element_type::DOUBLE:
        return {FieldText::kText, NumberText(json, path_)};
      case simdjson::dom::element_type::NULL_VALUE:
        return {};
      default:
        return {FieldText::kWrongType, TypeName(value.type())};
    }
  }

  template <typename Number>
  FieldText Integer(Number value, std::string_view json, Arena& arena) const {
    if (value == 0) return {FieldText::kText, NumberText(json, path_)};  // 0, -0, or masked
    char digits[24];
    const char* const end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
    return {FieldText::kText, arena.Copy({digits, static_cast<size_t>(end - digits)})};
  }

  const EventBuilder builder_;
  const std::array<Pointer, kFieldCount> pointers_;
  std::vector<int> members_;  // fields that are members of the root
  std::vector<int> nested_;   // fields that lie deeper
  simdjson::dom::parser parser_;
  std::vector<uint32_t> path_;  // child numbers from the root to the value at hand
};

}  // namespace

Result<std::unique_ptr<EventDecoder>> MakeJsonDecoder(const DecoderOptions& options) {
  std::array<Pointer, kFieldCount> pointers;
  const auto mappings = FieldMappings(options.mapping);
  for (int field = 0; field < kFieldCount; ++field) {
    if (mappings[field]->constant) continue;
    ASSIGN_OR_RETURN(pointers[field], CompilePointer(mappings[field]->path, FieldName(field)));
  }
  return std::unique_ptr<EventDecoder>(new JsonDecoder(options, std::move(pointers)));
}

}  // namespace freshet
