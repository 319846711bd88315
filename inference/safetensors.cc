// File: header length (u64, little-endian), header (JSON object), bytes of all tensors.
// Header: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, .., "__metadata__": {..}}.
#include "inference/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "inference/strict_json.h"

namespace freshet {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = sizeof(uint64_t);
constexpr const char* kMetadata = "__metadata__";
constexpr size_t kMaxHeaderBytes = 100'000'000;

Error CannotBeRead(const std::string& what) {
  return Error(ErrorCode::kIo, what + ": cannot be read: " + std::strerror(errno));
}

Error Corrupt(const std::string& message) { return Error(ErrorCode::kCorrupt, message); }

// Bytes of an element; nothing for a type that the format does not know.
std::optional<size_t> ElementBytes(std::string_view type) {
  static constexpr std::pair<std::string_view, size_t> kTypes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == type) return bytes;
  }
  return std::nullopt;
}

// Product of the shape and the element size; nothing where it overflows.
std::optional<size_t> TensorBytes(std::span<const size_t> shape, size_t element_bytes) {
  size_t bytes = element_bytes;
  if (std::find(shape.begin(), shape.end(), size_t{0}) != shape.end()) return 0;
  for (const size_t length : shape) {
    if (bytes > std::numeric_limits<size_t>::max() / length) return std::nullopt;
    bytes *= length;
  }
  return bytes;
}

bool IsListOfSizes(const Json& json) {
  return json.is_array() &&
         std::all_of(json.begin(), json.end(), [](const Json& value) { return value.is_number_unsigned(); });
}

Result<TensorEntry> ParseEntry(const std::string& name, const Json& json, size_t data_bytes) {
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !IsListOfSizes(json["shape"]) || !json.contains("data_offsets") ||
      !IsListOfSizes(json["data_offsets"]) || json["data_offsets"].size() != 2) {
    return Corrupt(name + ": expected {\"dtype\": text, \"shape\": [sizes], \"data_offsets\": [begin, end]}");
  }
  TensorEntry entry{name, json["dtype"].get<std::string>(), json["shape"].get<std::vector<size_t>>(),
                    json["data_offsets"][0].get<size_t>(), json["data_offsets"][1].get<size_t>()};
  if (entry.begin > entry.end || entry.end > data_bytes) {
    return Corrupt(name + ": bytes " + std::to_string(entry.begin) + ".." + std::to_string(entry.end) +
                   " reach beyond the file, which holds " + std::to_string(data_bytes) +
                   " bytes of tensors (truncated?)");
  }
  const std::optional<size_t> element_bytes = ElementBytes(entry.type);
  if (!element_bytes) return Corrupt(name + ": dtype \"" + entry.type + "\" is not one of the format");
  const std::optional<size_t> expected = TensorBytes(entry.shape, *element_bytes);
  if (expected != entry.end - entry.begin) {
    return Corrupt(name + ": " + std::to_string(entry.end - entry.begin) + " bytes, but " + entry.type + " " +
                   ShapeText(entry.shape) + " takes " +
                   (expected ? std::to_string(*expected) : "more than memory can hold"));
  }
  return entry;
}

// In the order of their bytes; an error where bytes belong to two tensors or to none.
Status SortAndCheckCover(std::vector<TensorEntry>& tensors, size_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  size_t covered = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorEntry& entry = tensors[i];
    if (entry.begin < covered) return Corrupt(entry.name + ": overlaps " + tensors[i - 1].name);
    if (entry.begin > covered) {
      return Corrupt(std::to_string(entry.begin - covered) + " bytes before " + entry.name + " belong to no tensor");
    }
    covered = entry.end;
  }
  if (covered == data_bytes) return {};
  return Corrupt(std::to_string(data_bytes - covered) + " bytes after the last tensor belong to none");
}

Result<std::vector<TensorEntry>> ParseHeader(std::string_view text, size_t data_bytes, SafetensorsMetadata& metadata) {
  ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text));
  if (!json.is_object()) return Corrupt("header is not a JSON object");
  std::vector<TensorEntry> tensors;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadata) {
      for (const auto& [key, said] : value.items()) {
        if (said.is_string()) metadata.emplace(key, said.get<std::string>());
      }
      continue;
    }
    ASSIGN_OR_RETURN(TensorEntry entry, ParseEntry(name, value, data_bytes));
    tensors.push_back(std::move(entry));
  }
  RETURN_IF_ERROR(SortAndCheckCover(tensors, data_bytes));
  return tensors;
}

}  // namespace

std::string_view TensorTypeName(TensorType type) {
  switch (type) {
    case TensorType::kFloat32:
      return "F32";
    case TensorType::kBFloat16:
      return "BF16";
    case TensorType::kInt8:
      return "I8";
    case TensorType::kUInt8:
      return "U8";
    case TensorType::kInt32:
      return "I32";
    case TensorType::kInt64:
      return "I64";
  }
  return {};
}

size_t TensorTypeBytes(TensorType type) { return ElementBytes(TensorTypeName(type)).value(); }

std::string ShapeText(std::span<const size_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::string SafetensorsHeader(std::span<const TensorView> tensors, const SafetensorsMetadata& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json[kMetadata] = metadata;
  size_t offset = 0;
  for (const TensorView& tensor : tensors) {
    json[tensor.name] = {{"dtype", TensorTypeName(tensor.type)},
                         {"shape", tensor.shape},
                         {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = json.dump();
  text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');  // tensors begin aligned
  const uint64_t length = text.size();
  char bytes[kLengthBytes];
  std::memcpy(bytes, &length, kLengthBytes);
  return std::string(bytes, kLengthBytes) + text;
}

Status WriteSafetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                        const SafetensorsMetadata& metadata) {
  for (const TensorView& tensor : tensors) {
    if (TensorBytes(tensor.shape, TensorTypeBytes(tensor.type)) != tensor.bytes.size()) {
      return Error(ErrorCode::kInternal,
                   tensor.name + ": " + std::to_string(tensor.bytes.size()) + " bytes for " + ShapeText(tensor.shape));
    }
  }
  const std::filesystem::path unfinished = path.string() + ".tmp";
  std::ofstream stream(unfinished, std::ios::binary | std::ios::trunc);
  const std::string header = SafetensorsHeader(tensors, metadata);
  stream.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const TensorView& tensor : tensors) {
    stream.write(reinterpret_cast<const char*>(tensor.bytes.data()), static_cast<std::streamsize>(tensor.bytes.size()));
  }
  stream.close();
  std::error_code failure;
  if (!stream) failure.assign(errno, std::generic_category());
  if (stream) std::filesystem::rename(unfinished, path, failure);
  if (stream && !failure) return {};
  std::error_code ignored;
  std::filesystem::remove(unfinished, ignored);
  return Error(ErrorCode::kIo, path.string() + ": cannot be written: " + failure.message());
}

Status CheckIsFile(const std::filesystem::path& path) {
  std::error_code failure;
  switch (std::filesystem::status(path, failure).type()) {
    case std::filesystem::file_type::regular:
      return {};
    case std::filesystem::file_type::not_found:
      return Error(ErrorCode::kInvalidArgument, "no such file");
    case std::filesystem::file_type::directory:
      return Error(ErrorCode::kInvalidArgument, "is a directory, expected a file");
    case std::filesystem::file_type::none:
      return Error(ErrorCode::kIo, "cannot be read: " + failure.message());
    default:
      return Error(ErrorCode::kInvalidArgument, "is not a regular file");
  }
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.file_name_ = path.filename().string();
  const std::string& name = file.file_name_;
  if (const Status is_file = CheckIsFile(path); !is_file.ok()) return is_file.error().At(name);
  std::error_code failure;
  file.file_bytes_ = std::filesystem::file_size(path, failure);
  file.stream_.open(path, std::ios::binary);
  if (failure || !file.stream_) return CannotBeRead(name);
  if (file.file_bytes_ < kLengthBytes) {
    return Corrupt(name + ": " + std::to_string(file.file_bytes_) + " bytes, expected a header's length of 8 bytes");
  }
  file.header_.resize(kLengthBytes);
  file.stream_.read(file.header_.data(), kLengthBytes);
  uint64_t length = 0;
  std::memcpy(&length, file.header_.data(), kLengthBytes);
  const size_t rest = file.file_bytes_ - kLengthBytes;
  if (length > rest || length > kMaxHeaderBytes) {
    return Corrupt(name + ": header of " + std::to_string(length) + " bytes, but the file has " + std::to_string(rest) +
                   " left (truncated, or not safetensors)");
  }
  file.header_.resize(kLengthBytes + length);
  file.stream_.read(file.header_.data() + kLengthBytes, static_cast<std::streamsize>(length));
  if (!file.stream_) return CannotBeRead(name);
  auto tensors = ParseHeader(std::string_view(file.header_).substr(kLengthBytes), rest - length, file.metadata_);
  if (!tensors.ok()) return tensors.error().At(name);
  file.tensors_ = std::move(tensors).value();
  return file;
}

Status SafetensorsFile::Read(const TensorEntry& entry, std::span<std::byte> destination) {
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(header_.size() + entry.begin));
  stream_.read(reinterpret_cast<char*>(destination.data()), static_cast<std::streamsize>(destination.size()));
  if (!stream_) return CannotBeRead(file_name_ + ": " + entry.name);
  return {};
}

}  // namespace freshet
