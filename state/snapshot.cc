#include "state/snapshot.h"

#include <zlib.h>

#include <cstdint>
#include <cstring>

#include "state/codec.h"

namespace freshet {
namespace {

constexpr char kFormat = 1;
constexpr char kUserPrefix = 'u';
constexpr char kWatermarkPrefix = 'm';
constexpr size_t kHeaderBytes = 1 + sizeof(uint32_t);

uint32_t Checksum(std::string_view key, std::string_view payload) {
  const auto add = [](uLong crc, std::string_view bytes) {
    return crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  };
  return static_cast<uint32_t>(add(add(crc32_z(0, nullptr, 0), key), payload));
}

Error Corrupt(const std::string& what) { return Error(ErrorCode::kCorrupt, "snapshot record: " + what); }

}  // namespace

std::string SnapshotUserKey(std::string_view user) { return std::string(1, kUserPrefix).append(user); }

std::string WatermarkKey(std::string_view whose) { return std::string(1, kWatermarkPrefix).append(whose); }

bool IsWatermarkKey(std::string_view key) { return key.starts_with(kWatermarkPrefix); }

std::string_view UserOfSnapshotKey(std::string_view key) {
  return key.starts_with(kUserPrefix) ? key.substr(1) : std::string_view();
}

size_t MaxSnapshotBytes(size_t id_bytes, size_t history) {
  return sizeof(kUserPrefix) + id_bytes + kHeaderBytes + MaxUserBytes(history);
}

std::string EncodeSnapshot(std::string_view key, std::string_view payload) {
  std::string value(kHeaderBytes, kFormat);
  const uint32_t crc = Checksum(key, payload);
  std::memcpy(value.data() + 1, &crc, sizeof(crc));
  return value.append(payload);
}

Result<std::string_view> DecodeSnapshot(std::string_view key, std::string_view value) {
  if (value.size() < kHeaderBytes) {
    return Corrupt("found " + std::to_string(value.size()) + " bytes, expected at least " +
                   std::to_string(kHeaderBytes));
  }
  if (value.front() != kFormat) {
    return Corrupt("found format " + std::to_string(static_cast<unsigned char>(value.front())) + ", expected " +
                   std::to_string(kFormat));
  }
  uint32_t crc = 0;
  std::memcpy(&crc, value.data() + 1, sizeof(crc));
  const std::string_view payload = value.substr(kHeaderBytes);
  if (crc != Checksum(key, payload)) return Corrupt("its checksum is not that of its bytes");
  return payload;
}

std::string EncodeWatermark(const Watermark& watermark) {
  const int64_t position = Raw(watermark.position);
  std::string payload(sizeof(position), '\0');
  std::memcpy(payload.data(), &position, sizeof(position));
  return payload.append(watermark.whose);
}

Result<Watermark> DecodeWatermark(std::string_view payload) {
  int64_t position = -1;
  if (payload.size() >= sizeof(position)) std::memcpy(&position, payload.data(), sizeof(position));
  if (position < 0) return Corrupt("a watermark without a position");
  return Watermark{Offset{position}, std::string(payload.substr(sizeof(position)))};
}

}  // namespace freshet
