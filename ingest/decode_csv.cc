// CSV (RFC 4180 quotes, without line ends inside of fields) and TSV (plain) records.
#include <algorithm>
#include <charconv>
#include <vector>

#include "ingest/event_fields.h"

namespace freshet {
namespace {

// Splits `row` into `columns`; quoted fields are unescaped into `arena` where they must be. False: the quotes are
// wrong.
bool SplitQuoted(std::string_view row, Arena& arena, std::vector<std::string_view>& columns);

bool Split(std::string_view row, RecordFormat format, Arena& arena, std::vector<std::string_view>& columns) {
  columns.clear();
  const char delimiter = format == RecordFormat::kCsv ? ',' : '\t';
  if (format == RecordFormat::kCsv && row.find('"') != std::string_view::npos) return SplitQuoted(row, arena, columns);
  for (size_t begin = 0;;) {
    const size_t end = row.find(delimiter, begin);
    columns.push_back(row.substr(begin, end - begin));
    if (end == std::string_view::npos) return true;
    begin = end + 1;
  }
}

// `quoted` with each "" as one ".
std::string_view Unescape(std::string_view quoted, Arena& arena) {
  if (quoted.find('"') == std::string_view::npos) return quoted;
  char* const memory = arena.Allocate(quoted.size());
  size_t size = 0;
  for (size_t i = 0; i < quoted.size(); ++i) {
    memory[size++] = quoted[i];
    if (quoted[i] == '"') ++i;
  }
  return {memory, size};
}

bool SplitQuoted(std::string_view row, Arena& arena, std::vector<std::string_view>& columns) {
  for (size_t begin = 0;;) {
    size_t end;
    if (begin < row.size() && row[begin] == '"') {
      size_t close = row.find('"', begin + 1);
      while (close != std::string_view::npos && close + 1 < row.size() && row[close + 1] == '"') {
        close = row.find('"', close + 2);
      }
      if (close == std::string_view::npos) return false;
      columns.push_back(Unescape(row.substr(begin + 1, close - begin - 1), arena));
      end = close + 1;
      if (end < row.size() && row[end] != ',') return false;
    } else {
      end = std::min(row.find(',', begin), row.size());
      columns.push_back(row.substr(begin, end - begin));
    }
    if (end == row.size()) return true;
    begin = end + 1;
  }
}

class DelimitedDecoder : public EventDecoder {
 public:
  explicit DelimitedDecoder(const DecoderOptions& options) : options_(options), builder_(options) { Locate({}); }

  std::variant<Event, DecodeFailure> Decode(const RawRecord& record, Arena& arena) override {
    if (auto failure = builder_.CheckRecord(record)) return *std::move(failure);
    if (record.IsTombstone()) return builder_.BuildForget(record);
    if (record.header != header_) SetHeader(record.header);
    if (!IsValidUtf8(record.value)) return DecodeFailure{"invalid_utf8", "the record is not UTF-8"};
    if (!Split(record.value, options_.format, arena, columns_)) {
      return DecodeFailure{"invalid_csv", "a quoted field is not closed, or text follows its closing quote"};
    }
    if (columns_.size() < needed_columns_) return WrongCount("too_few_fields");
    if (!header_.empty() && columns_.size() > needed_columns_) return WrongCount("too_many_fields");
    FieldTexts fields{};
    for (int field = 0; field < kFieldCount; ++field) {
      if (places_[field]) fields[field] = {FieldText::kText, columns_[*places_[field]]};
    }
    return builder_.Build(fields);
  }

  Status CheckHeader(std::string_view header) const override {
    Arena arena;
    std::vector<std::string_view> names;
    if (!Split(header, options_.format, arena, names)) {
      return Error(ErrorCode::kInvalidArgument, "the header line's quotes are wrong: " + Excerpt(header));
    }
    const auto mappings = FieldMappings(options_.mapping);
    for (int field = 0; field < kFieldCount; ++field) {
      const FieldMapping& mapping = *mappings[field];
      if (!mapping.constant && std::count(names.begin(), names.end(), ColumnName(mapping)) > 1) {
        return Error(ErrorCode::kInvalidArgument, WithColumns(field, ": more than one column ", names));
      }
      if (mapping.constant || MayBeMissing(field, mapping) || Place(mapping, names)) continue;
      return Error(ErrorCode::kInvalidArgument, WithColumns(field, ": no column ", names));
    }
    return {};
  }

 private:
  // "source.mapping.item_id: no column "article"; the columns are …".
  std::string WithColumns(int field, std::string_view problem, const std::vector<std::string_view>& names) const {
    std::string message = "source.mapping." + std::string(FieldName(field)) + std::string(problem) +
                          Excerpt(ColumnName(*FieldMappings(options_.mapping)[field])) + "; the columns are ";
    for (size_t i = 0; i < names.size(); ++i) message += (i == 0 ? "" : ", ") + std::string(names[i]);
    return message;
  }

  // Where the field is among the columns of a header line (none: a file without one).
  static std::optional<size_t> Place(const FieldMapping& mapping, const std::vector<std::string_view>& names) {
    const auto name = std::find(names.begin(), names.end(), ColumnName(mapping));
    if (name != names.end()) return name - names.begin();
    const auto number = ColumnNumber(mapping);
    return number && (names.empty() || *number < names.size()) ? number : std::nullopt;
  }

  void SetHeader(std::string_view header) {
    header_ = header;
    Arena arena;
    std::vector<std::string_view> names;
    if (!header.empty() && !Split(header_, options_.format, arena, names)) names.clear();
    Locate(names);
  }

  void Locate(const std::vector<std::string_view>& names) {
    const auto mappings = FieldMappings(options_.mapping);
    needed_columns_ = names.size();
    for (int field = 0; field < kFieldCount; ++field) {
      places_[field] = mappings[field]->constant ? std::nullopt : Place(*mappings[field], names);
      if (places_[field]) needed_columns_ = std::max(needed_columns_, *places_[field] + 1);
    }
  }

  DecodeFailure WrongCount(std::string_view code) const {
    return {code, "found " + std::to_string(columns_.size()) + " fields, expected " + std::to_string(needed_columns_)};
  }

  const DecoderOptions options_;
  const EventBuilder builder_;
  std::string header_;  // of the records at hand; what follows is derived from it
  std::array<std::optional<size_t>, kFieldCount> places_;
  size_t needed_columns_ = 0;
  std::vector<std::string_view> columns_;
};

}  // namespace

std::string_view ColumnName(const FieldMapping& mapping) {
  std::string_view name = mapping.path;
  if (!name.empty() && name.front() == '/') name.remove_prefix(1);
  return name;
}

std::optional<size_t> ColumnNumber(const FieldMapping& mapping) {
  const std::string_view name = ColumnName(mapping);
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

Result<std::unique_ptr<EventDecoder>> MakeDelimitedDecoder(const DecoderOptions& options) {
  const auto mappings = FieldMappings(options.mapping);
  for (int field = 0; field < kFieldCount; ++field) {
    if (mappings[field]->constant || !ColumnName(*mappings[field]).empty()) continue;
    return Error(ErrorCode::kInvalidArgument, "source.mapping." + std::string(FieldName(field)) +
                                                  ": empty, expected a column's name, or its number from 0");
  }
  return std::unique_ptr<EventDecoder>(new DelimitedDecoder(options));
}

}  // namespace freshet
