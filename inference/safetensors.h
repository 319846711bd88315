// The safetensors container: a length, a JSON header that names tensors, then their bytes, little-endian.
//
// The reader trusts nothing: bounds, sizes, overlaps, holes and repeated names are checked before memory is taken, so
// that a file can make it allocate no more than the file's own size. Grammar: docs/model-format.md.
// Threads: a SafetensorsFile belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace freshet {

// The element types that freshet's files use.
enum class TensorType { kFloat32, kBFloat16, kInt8, kUInt8, kInt32, kInt64 };

// "F32", "BF16", "I8", "U8", "I32", "I64".
std::string_view TensorTypeName(TensorType type);
size_t TensorTypeBytes(TensorType type);

// A tensor to write: row-major `bytes`, as many as type and shape say.
struct TensorView {
  std::string name;
  TensorType type = TensorType::kFloat32;
  std::vector<size_t> shape;
  std::span<const std::byte> bytes;
};

// What a file says of itself: texts by name.
using SafetensorsMetadata = std::map<std::string, std::string>;

// What goes before the tensors' bytes, which follow in this order without gaps.
std::string SafetensorsHeader(std::span<const TensorView> tensors, const SafetensorsMetadata& metadata = {});

// Writes a file, whole or (with an error) not at all: it is renamed into place.
[[nodiscard]] Status WriteSafetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                                      const SafetensorsMetadata& metadata = {});

// A tensor in a file.
struct TensorEntry {
  std::string name;
  std::string type;  // as the file says, e.g. "F32" or "BF16"
  std::vector<size_t> shape;
  size_t begin = 0;  // bytes after the header
  size_t end = 0;
};

// "[64, 256]".
std::string ShapeText(std::span<const size_t> shape);

// An error, which names no file, where `path` leads to no file that can be read from beginning to end.
[[nodiscard]] Status CheckIsFile(const std::filesystem::path& path);

class SafetensorsFile {
 public:
  // Opens the file and reads its header. Errors name the file and, where there is one, the tensor.
  static Result<SafetensorsFile> Open(const std::filesystem::path& path);

  // In the order of their bytes, which cover the file to its end without gaps.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // What of it is text; other writers have their own.
  const SafetensorsMetadata& metadata() const { return metadata_; }
  // The file's bytes before the first tensor's.
  const std::string& header() const { return header_; }
  size_t file_bytes() const { return file_bytes_; }

  // Reads a tensor's bytes. REQUIRES: destination.size() == entry.end - entry.begin.
  [[nodiscard]] Status Read(const TensorEntry& entry, std::span<std::byte> destination);

 private:
  SafetensorsFile() = default;

  std::string file_name_;
  std::ifstream stream_;
  std::string header_;
  size_t file_bytes_ = 0;
  std::vector<TensorEntry> tensors_;
  SafetensorsMetadata metadata_;
};

}  // namespace freshet
