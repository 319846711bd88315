// Protobuf records, bare or in Confluent's wire format (a zero byte, the schema's id, the message's index).
//
// The mapping is resolved to field numbers once. A record is then walked by libprotobuf's own primitives and not made a
// message of, so that ids are views of it. Of a field that is there twice the last counts, as everywhere in Protobuf.
#include <event.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

#include "ingest/event_fields.h"

namespace freshet {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr char kTimestampMessage[] = "google.protobuf.Timestamp";

// A field of a message that is, or leads to, a mapped one.
struct Step {
  const FieldDescriptor* field = nullptr;
  uint32_t tag = 0;               // number and wire type
  std::vector<int> event_fields;  // FieldIndex of those that it is
  std::vector<Step> below;        // in the message that it is
  bool is_timestamp = false;      // google.protobuf.Timestamp
};

Error Refusal(int field, const FieldMapping& mapping, const std::string& why) {
  return Error(ErrorCode::kInvalidArgument,
               "source.mapping." + std::string(FieldName(field)) + ": " + Excerpt(mapping.path) + ": " + why);
}

std::vector<std::string> Names(std::string_view path) {
  std::vector<std::string> names(1);
  for (const char c : path.substr(path.starts_with('/') ? 1 : 0)) {
    if (c == '/') {
      names.emplace_back();
    } else {
      names.back() += c;
    }
  }
  return names;
}

std::string FieldNames(const Descriptor& message) {
  std::string names;
  for (int i = 0; i < message.field_count(); ++i) names += (i == 0 ? "" : ", ") + message.field(i)->name();
  return names;
}

bool MakesText(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_BOOL:
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return false;
    default:
      return true;
  }
}

uint32_t TagOf(const FieldDescriptor& field) {
  const auto type = static_cast<WireFormatLite::FieldType>(field.type());
  return WireFormatLite::MakeTag(field.number(), WireFormatLite::WireTypeForFieldType(type));
}

// Adds the way to a mapped field to `steps`, those of `message`; and to `absent` what it is where it is not there.
Status AddSteps(const Descriptor& message, int event_field, const DecoderOptions& options, std::vector<Step>& steps,
                FieldTexts& absent) {
  const FieldMapping& mapping = *FieldMappings(options.mapping)[event_field];
  const auto names = Names(mapping.path);
  const Descriptor* at = &message;
  std::vector<Step>* among = &steps;
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* const field = at->FindFieldByName(names[i]);
    if (field == nullptr) {
      if (names.size() == 1 && MayBeMissing(event_field, mapping)) return {};
      return Refusal(event_field, mapping, at->full_name() + " has no such field; it has " + FieldNames(*at));
    }
    if (field->is_repeated()) return Refusal(event_field, mapping, names[i] + " is repeated, expected a single field");
    const uint32_t tag = TagOf(*field);
    auto step = std::find_if(among->begin(), among->end(), [tag](const Step& known) { return known.tag == tag; });
    if (step == among->end()) {
      among->push_back({.field = field, .tag = tag});
      step = among->end() - 1;
    }
    const bool last = i + 1 == names.size();
    const Descriptor* const inner = field->message_type();
    if (last && inner != nullptr && inner->full_name() == kTimestampMessage && event_field == kTimestampField) {
      if (options.mapping.timestamp_unit != TimeUnit::kMilliseconds) {
        return Refusal(event_field, mapping, std::string("is a ") + kTimestampMessage + ", which needs no unit");
      }
      if (!step->below.empty()) return Refusal(event_field, mapping, "is a time, and another field is mapped into it");
      step->is_timestamp = true;
      return {};
    }
    if (last ? !MakesText(*field) : inner == nullptr) {
      return Refusal(event_field, mapping,
                     names[i] + " is a " + (inner != nullptr ? inner->full_name() : field->type_name()) +
                         (last ? std::string(", expected a string, bytes, an integer or an enum") +
                                     (event_field == kTimestampField ? std::string(", or a ") + kTimestampMessage : "")
                               : ", expected a message"));
    }
    if (last) {
      step->event_fields.push_back(event_field);
      if (field->enum_type() != nullptr && !field->has_presence()) {
        absent[event_field] = {FieldText::kText, field->default_value_enum()->name()};
      }
      return {};
    }
    at = inner;
    among = &step->below;
  }
  return {};
}

struct FirstError : DescriptorPool::ErrorCollector {
  void AddError(const std::string& file, const std::string& element, const google::protobuf::Message*, ErrorLocation,
                const std::string& message) override {
    if (text.empty()) text = file + ": " + element + ": " + message;
  }
  std::string text;
};

// `options.message` of the descriptor set, which is built in `pool`; freshet.v1.Event where there is none.
Result<const Descriptor*> FindMessage(const ProtobufOptions& options, DescriptorPool& pool) {
  if (options.descriptor_set.empty() && options.message.empty()) return v1::Event::descriptor();
  const auto refuse = [&](std::string_view key, const std::string& found, const std::string& why) {
    return Error(ErrorCode::kInvalidArgument, "source.protobuf." + std::string(key) + ": \"" + found + "\": " + why);
  };
  const std::string& path = options.descriptor_set;
  if (path.empty() || options.message.empty()) {
    return refuse(path.empty() ? "descriptor_set" : "message", "",
                  "expected both descriptor_set and message, or neither of them");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  google::protobuf::FileDescriptorSet set;
  if (!file || !(bytes << file.rdbuf())) return refuse("descriptor_set", path, "cannot be read");
  if (!set.ParseFromString(bytes.str()) || set.file().empty()) {
    return refuse("descriptor_set", path, "expected a file of protoc --include_imports --descriptor_set_out");
  }
  for (const auto& described : set.file()) {
    FirstError error;
    if (pool.BuildFileCollectingErrors(described, &error) != nullptr) continue;
    return refuse("descriptor_set", path, error.text + "; was it made with --include_imports?");
  }
  if (const Descriptor* const message = pool.FindMessageTypeByName(options.message)) return message;
  return refuse("message", options.message, "no such message in " + path);
}

// Where Confluent's serialisers say the message is: its place in the file, or in the message around it, outermost
// first.
std::vector<int> IndexOf(const Descriptor& message) {
  std::vector<int> index;
  for (const Descriptor* at = &message; at != nullptr; at = at->containing_type()) index.push_back(at->index());
  std::reverse(index.begin(), index.end());
  return index;
}

std::string Listed(const std::vector<int>& index) {
  std::string text = "[";
  for (size_t i = 0; i < index.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(index[i]);
  return text + "]";
}

class ProtobufDecoder : public EventDecoder {
 public:
  ProtobufDecoder(const DecoderOptions& options, std::unique_ptr<DescriptorPool> pool, const Descriptor& message,
                  std::vector<Step> steps, const FieldTexts& absent)
      : builder_(options),
        pool_(std::move(pool)),
        message_(message),
        index_(IndexOf(message)),
        steps_(std::move(steps)),
        absent_(absent) {}

  std::variant<Event, DecodeFailure> Decode(const RawRecord& record, Arena& arena) override {
    if (auto failure = builder_.CheckRecord(record)) return *std::move(failure);
    if (record.IsTombstone()) return builder_.BuildForget(record);
    const auto* const bytes = reinterpret_cast<const uint8_t*>(record.value.data());
    CodedInputStream in(bytes, static_cast<int>(record.value.size()));
    in.PushLimit(static_cast<int>(record.value.size()));  // so that BytesUntilLimit() is known
    // No message begins with a zero byte: its first tag would be 0.
    if (record.value.starts_with('\0')) {
      if (auto failure = ReadEnvelope(record.value, in)) return *std::move(failure);
    }
    FieldTexts fields = absent_;
    if (!Read(steps_, in, record.value, arena, fields)) return Malformed(record.value, in.CurrentPosition());
    return builder_.Build(fields);
  }

 private:
  // Confluent's wire format: 0, four bytes of the schema's id, and the message's index: how many numbers (0 stands for
  // [0]), then these, all of them zigzag varints.
  std::optional<DecodeFailure> ReadEnvelope(std::string_view value, CodedInputStream& in) {
    constexpr int kHead = 5;
    uint32_t size = 0;
    if (!in.Skip(kHead) || !in.ReadVarint32(&size)) return Malformed(value, in.CurrentPosition());
    found_.assign(size == 0 ? 1 : 0, 0);
    for (int left = WireFormatLite::ZigZagDecode32(size); left > 0; --left) {
      uint32_t number = 0;
      if (!in.ReadVarint32(&number)) return Malformed(value, in.CurrentPosition());
      if (found_.size() <= index_.size()) found_.push_back(WireFormatLite::ZigZagDecode32(number));
    }
    if (found_ == index_) return std::nullopt;
    const auto byte = [&](int i) { return std::to_string(static_cast<unsigned char>(value[static_cast<size_t>(i)])); };
    return DecodeFailure{"other_message", "found message " + Listed(found_) + " of the schema with the bytes " +
                                              byte(1) + " " + byte(2) + " " + byte(3) + " " + byte(4) +
                                              " as its id, expected " + Listed(index_) + ", " + message_.full_name()};
  }

  DecodeFailure Malformed(std::string_view value, int position) const {
    return {"invalid_protobuf", "found " + std::to_string(value.size()) + " bytes, " + Excerpt(value) +
                                    ", that make no sense at byte " + std::to_string(position) + ", expected " +
                                    message_.full_name() + ", bare or in Confluent's wire format"};
  }

  // Takes the mapped fields of the message that `in` is limited to. False: it is none.
  static bool Read(const std::vector<Step>& steps, CodedInputStream& in, std::string_view value, Arena& arena,
                   FieldTexts& fields) {
    while (const uint32_t tag = in.ReadTag()) {
      const auto step = std::find_if(steps.begin(), steps.end(), [tag](const Step& s) { return s.tag == tag; });
      if (step == steps.end()) {
        if (!WireFormatLite::SkipField(&in, tag)) return false;
      } else if (step->is_timestamp || !step->below.empty()) {
        uint32_t size = 0;
        if (!in.ReadVarint32(&size) || size > static_cast<uint32_t>(in.BytesUntilLimit())) return false;
        const auto limit = in.PushLimit(static_cast<int>(size));
        if (step->is_timestamp ? !ReadTimestamp(in, arena, fields) : !Read(step->below, in, value, arena, fields)) {
          return false;
        }
        in.PopLimit(limit);
      } else {
        FieldText text{FieldText::kText, {}};
        if (!ReadText(*step->field, in, value, arena, text)) return false;
        for (const int field : step->event_fields) fields[field] = text;
      }
    }
    return in.ConsumedEntireMessage();
  }

  // An integer 0 and an empty text are what Protobuf says of a field that is not there.
  static bool ReadText(const FieldDescriptor& field, CodedInputStream& in, std::string_view value, Arena& arena,
                       FieldText& text) {
    uint32_t small = 0;
    uint64_t large = 0;
    const auto number = [&](auto decoded) {
      if (decoded == 0 && !field.has_presence()) {
        text = {};
      } else {
        text.text = Digits(decoded, arena);
      }
      return true;
    };
    switch (field.type()) {
      case FieldDescriptor::TYPE_STRING:
      case FieldDescriptor::TYPE_BYTES:
        if (!in.ReadVarint32(&small) || small > static_cast<uint32_t>(in.BytesUntilLimit())) return false;
        text.text = value.substr(static_cast<size_t>(in.CurrentPosition()), small);
        return in.Skip(static_cast<int>(small));
      case FieldDescriptor::TYPE_ENUM:
        if (!in.ReadVarint64(&large)) return false;
        if (const auto* const name = field.enum_type()->FindValueByNumber(static_cast<int>(large))) {
          text.text = name->name();
          return true;
        }
        return number(static_cast<int32_t>(large));
      case FieldDescriptor::TYPE_INT32:
        return in.ReadVarint64(&large) && number(static_cast<int32_t>(large));
      case FieldDescriptor::TYPE_INT64:
        return in.ReadVarint64(&large) && number(static_cast<int64_t>(large));
      case FieldDescriptor::TYPE_UINT32:
        return in.ReadVarint64(&large) && number(static_cast<uint32_t>(large));
      case FieldDescriptor::TYPE_UINT64:
        return in.ReadVarint64(&large) && number(large);
      case FieldDescriptor::TYPE_SINT32:
        return in.ReadVarint64(&large) && number(WireFormatLite::ZigZagDecode32(static_cast<uint32_t>(large)));
      case FieldDescriptor::TYPE_SINT64:
        return in.ReadVarint64(&large) && number(WireFormatLite::ZigZagDecode64(large));
      case FieldDescriptor::TYPE_FIXED32:
        return in.ReadLittleEndian32(&small) && number(small);
      case FieldDescriptor::TYPE_SFIXED32:
        return in.ReadLittleEndian32(&small) && number(static_cast<int32_t>(small));
      case FieldDescriptor::TYPE_FIXED64:
        return in.ReadLittleEndian64(&large) && number(large);
      default:  // TYPE_SFIXED64: MakesText() lets no other pass
        return in.ReadLittleEndian64(&large) && number(static_cast<int64_t>(large));
    }
  }

  // google.protobuf.Timestamp: int64 seconds = 1, int32 nanos = 2; as milliseconds, floored.
  static bool ReadTimestamp(CodedInputStream& in, Arena& arena, FieldTexts& fields) {
    constexpr int64_t kBeyond = 1'000'000'000'000;  // seconds that no time has: Build() refuses them by name
    uint64_t seconds = 0, nanos = 0;
    while (const uint32_t tag = in.ReadTag()) {
      const bool known = tag == WireFormatLite::MakeTag(1, WireFormatLite::WIRETYPE_VARINT) ? in.ReadVarint64(&seconds)
                         : tag == WireFormatLite::MakeTag(2, WireFormatLite::WIRETYPE_VARINT)
                             ? in.ReadVarint64(&nanos)
                             : WireFormatLite::SkipField(&in, tag);
      if (!known) return false;
    }
    if (!in.ConsumedEntireMessage()) return false;
    const int64_t whole = std::clamp(static_cast<int64_t>(seconds), -kBeyond, kBeyond);
    const int64_t parts = std::clamp(static_cast<int64_t>(nanos), int64_t{0}, int64_t{999'999'999});
    fields[kTimestampField] = {FieldText::kText, Digits(whole * 1000 + parts / 1'000'000, arena)};
    return true;
  }

  template <typename Number>
  static std::string_view Digits(Number value, Arena& arena) {
    char digits[24];
    const char* const end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
    return arena.Copy({digits, static_cast<size_t>(end - digits)});
  }

  const EventBuilder builder_;
  const std::unique_ptr<DescriptorPool> pool_;  // what message_ and the steps' fields belong to
  const Descriptor& message_;
  const std::vector<int> index_;
  const std::vector<Step> steps_;
  const FieldTexts absent_;
  std::vector<int> found_;  // the index of the record at hand
};

}  // namespace

Result<std::unique_ptr<EventDecoder>> MakeProtobufDecoder(const DecoderOptions& options) {
  auto pool = std::make_unique<DescriptorPool>();
  ASSIGN_OR_RETURN(const Descriptor* const message, FindMessage(options.protobuf, *pool));
  const auto mappings = FieldMappings(options.mapping);
  std::vector<Step> steps;
  FieldTexts absent{};
  for (int field = 0; field < kFieldCount; ++field) {
    if (!mappings[field]->constant) RETURN_IF_ERROR(AddSteps(*message, field, options, steps, absent));
  }
  return std::unique_ptr<EventDecoder>(
      new ProtobufDecoder(options, std::move(pool), *message, std::move(steps), absent));
}

}  // namespace freshet
