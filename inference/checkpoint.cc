#include "inference/checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <system_error>
#include <utility>

#include "inference/number_types.h"
#include "inference/safetensors.h"
#include "inference/unpickler.h"

namespace freshet {
namespace {

using Archive = std::map<std::string, std::string_view, std::less<>>;

Error Damaged(const std::string& problem) { return Error(ErrorCode::kCorrupt, "damaged: " + problem); }

// A little-endian number at `at`, or 0 past the end.
template <typename Number>
Number At(std::string_view bytes, size_t at) {
  Number number = 0;
  if (at <= bytes.size() && sizeof(Number) <= bytes.size() - at) std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

// The content of the file that an entry of the zip file's directory describes.
Result<std::string_view> StoredContent(std::string_view zip, std::string_view entry, const std::string& name) {
  const auto size = At<uint32_t>(entry, 24);
  const auto local = At<uint32_t>(entry, 42);
  if (At<uint16_t>(entry, 10) != 0 || At<uint32_t>(entry, 20) != size) {
    return Error(ErrorCode::kInvalidArgument, name + " is compressed, which torch.save never does");
  }
  if (At<uint32_t>(zip, local) != 0x04034b50) return Damaged("nothing is where " + name + " should be");
  const size_t begin =
      size_t{local} + 30 + At<uint16_t>(zip, size_t{local} + 26) + At<uint16_t>(zip, size_t{local} + 28);
  if (begin > zip.size() || size > zip.size() - begin) return Damaged(name + " reaches beyond the end");
  const std::string_view content = zip.substr(begin, size);
  if (crc32_z(0, reinterpret_cast<const unsigned char*>(content.data()), content.size()) != At<uint32_t>(entry, 16)) {
    return Damaged("the checksum of " + name + " is another (or it was saved with set_crc32_options(False))");
  }
  return content;
}

// The files of a zip file by their names, which begin with the archive's own.
Result<Archive> ReadZip(std::string_view zip) {
  constexpr std::string_view kEnd = "PK\5\6";
  constexpr size_t kEndBytes = 22, kEntryBytes = 46;
  const size_t end = zip.size() < kEndBytes ? zip.npos : zip.rfind(kEnd, zip.size() - kEndBytes);
  if (end == zip.npos) {
    return Error(
        ErrorCode::kInvalidArgument,
        "no whole zip file, which torch.save writes since PyTorch 1.6: damaged, or to be loaded there and saved "
        "again");
  }
  size_t at = At<uint32_t>(zip, end + 16);
  if (at == UINT32_MAX) return Error(ErrorCode::kInvalidArgument, "4 GiB or more, which is not read");
  Archive files;
  size_t left = zip.size();  // entries may share bytes, of which each would be read for its checksum
  for (int count = At<uint16_t>(zip, end + 10); count > 0; --count) {
    if (At<uint32_t>(zip, at) != 0x02014b50) return Damaged("the zip file's directory ends early");
    const std::string_view entry = zip.substr(at, kEntryBytes);
    const std::string name(zip.substr(std::min(at + kEntryBytes, zip.size()), At<uint16_t>(entry, 28)));
    const auto size = At<uint32_t>(entry, 24);
    if (size > left) return Damaged(name + " and those before it are larger than the file");
    left -= size;
    ASSIGN_OR_RETURN(files[name], StoredContent(zip, entry, name));
    at += kEntryBytes + At<uint16_t>(entry, 28) + At<uint16_t>(entry, 30) + At<uint16_t>(entry, 32);
  }
  return files;
}

size_t ElementBytes(StorageType type) {
  if (type == StorageType::kFloat) return 4;
  return type == StorageType::kDouble ? 8 : 2;
}

// Infinite where it is beyond 32 bits.
float Narrowed(double number) {
  using Limits = std::numeric_limits<float>;
  return std::abs(number) > Limits::max() ? Limits::infinity() : static_cast<float>(number);
}

float Element(std::string_view bytes, StorageType type, size_t at) {
  if (type == StorageType::kFloat) return At<float>(bytes, 4 * at);
  if (type == StorageType::kDouble) return Narrowed(At<double>(bytes, 8 * at));
  const auto bits = At<uint16_t>(bytes, 2 * at);
  return type == StorageType::kHalf ? FromFp16(bits) : FromBf16(bits);
}

// Whether elements lie in the order of their indices, without gaps. A single one has no stride that matters.
bool IsContiguous(const PickledTensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

Result<CheckpointTensor> ReadTensor(const PickledTensor& tensor, std::string_view bytes) {
  const size_t element = ElementBytes(tensor.storage_type), stored = bytes.size() / element;
  const std::string name(tensor.name);
  CheckpointTensor read{name, {tensor.shape.begin(), tensor.shape.end()}, {}};
  size_t count = 1;
  for (const size_t length : read.shape) {
    if (length == 0 || count > stored / length) return Damaged(name + " has too few bytes for its shape");
    count *= length;
  }
  if (tensor.strides.size() != tensor.shape.size() || !IsContiguous(tensor)) {
    return Error(ErrorCode::kInvalidArgument, name + " is a view: save .contiguous() tensors");
  }
  const auto offset = static_cast<size_t>(tensor.offset);
  if (tensor.offset < 0 || count > stored || offset > stored - count)
    return Damaged(name + " reaches beyond its bytes");
  for (size_t i = 0; i < count; ++i) {
    read.values.push_back(Element(bytes, tensor.storage_type, offset + i));
    if (std::isfinite(read.values.back())) continue;
    return Error(ErrorCode::kCorrupt, name + "[" + std::to_string(i) + "] is NaN, infinite or beyond 32 bits");
  }
  return read;
}

}  // namespace

Result<std::vector<CheckpointTensor>> ParseCheckpoint(std::string_view file) {
  ASSIGN_OR_RETURN(const Archive files, ReadZip(file));
  constexpr std::string_view kPickle = "data.pkl";
  const auto pickle =
      std::find_if(files.begin(), files.end(), [&](const auto& at) { return at.first.ends_with(kPickle); });
  if (pickle == files.end()) return Error(ErrorCode::kInvalidArgument, "a zip file without a data.pkl: no checkpoint");
  const std::string prefix = pickle->first.substr(0, pickle->first.size() - kPickle.size());
  const auto order = files.find(prefix + "byteorder");
  if (order != files.end() && order->second != "little") {
    return Error(ErrorCode::kInvalidArgument, "its numbers are not little-endian");
  }
  ASSIGN_OR_RETURN(const std::vector<PickledTensor> pickled, UnpickleStateDict(pickle->second));
  std::vector<CheckpointTensor> tensors;
  size_t elements = 0;
  for (const PickledTensor& tensor : pickled) {
    const std::string storage = "data/" + std::string(tensor.storage);
    const auto bytes = files.find(prefix + storage);
    if (bytes == files.end()) return Damaged(storage + ", of " + std::string(tensor.name) + ", is missing");
    ASSIGN_OR_RETURN(CheckpointTensor read, ReadTensor(tensor, bytes->second));
    elements += read.values.size();
    // Tensors may share bytes, by which a small file could ask for any amount of memory.
    if (elements > file.size()) return Error(ErrorCode::kInvalidArgument, "its tensors are larger than the file");
    tensors.push_back(std::move(read));
  }
  return tensors;
}

Result<std::vector<CheckpointTensor>> ReadCheckpoint(const std::filesystem::path& path) {
  if (const Status is_file = CheckIsFile(path); !is_file.ok()) return is_file.error().At(path.string());
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  std::string file(failure ? 0 : size, '\0');
  std::ifstream stream(path, std::ios::binary);
  if (stream) stream.read(file.data(), static_cast<std::streamsize>(file.size()));
  if (failure || !stream) {
    return Error(ErrorCode::kIo, path.string() + ": cannot be read: " + std::strerror(errno));
  }
  Result<std::vector<CheckpointTensor>> tensors = ParseCheckpoint(file);
  if (!tensors.ok()) return tensors.error().At(path.string());
  return tensors;
}

}  // namespace freshet
