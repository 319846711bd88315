// Files and records for the tests of ingest/.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/arena.h"
#include "ingest/decoder.h"
#include "tests/support/temporary_directory.h"

namespace freshet {

// Files in a folder that is gone when the test is over.
class TemporaryFolder {
 public:
  std::filesystem::path operator/(const std::string& name) const { return directory_.path() / name; }

  std::filesystem::path Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(directory_.path() / name, std::ios::binary) << bytes;
    return directory_.path() / name;
  }
  static std::string Read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

 private:
  const TemporaryDirectory directory_;
};

inline std::string GzipBytes(const std::string& bytes) {
  z_stream zlib{};
  deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&zlib, bytes.size()), '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  zlib.avail_in = static_cast<uInt>(bytes.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&zlib, Z_FINISH), Z_STREAM_END);
  out.resize(zlib.total_out);
  deflateEnd(&zlib);
  return out;
}

inline std::string ZstdBytes(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

// Decodes single records; the views of the last event live until the next.
class TestDecoder {
 public:
  explicit TestDecoder(const DecoderOptions& options = {}) {
    auto decoder = MakeDecoder(options);
    EXPECT_TRUE(decoder.ok()) << (decoder.ok() ? "" : decoder.error().message());
    decoder_ = std::move(decoder).value();
  }

  std::variant<Event, DecodeFailure> operator()(std::string_view value, std::string_view header = {}) {
    RawRecord record;
    record.header = header;
    return Decode(record, value);
  }
  std::variant<Event, DecodeFailure> Decode(RawRecord record, std::string_view value) {
    arena_.Reset();
    record.value = arena_.Copy(value);
    return decoder_->Decode(record, arena_);
  }
  // The code of the failure; "" where the record is an event.
  std::string Code(std::string_view value, std::string_view header = {}) {
    const auto result = (*this)(value, header);
    const auto* const failure = std::get_if<DecodeFailure>(&result);
    message_ = failure == nullptr ? "" : failure->message;
    return failure == nullptr ? "" : std::string(failure->code);
  }
  // The event, or an empty one and a failed test.
  Event Good(std::string_view value, std::string_view header = {}) {
    const auto result = (*this)(value, header);
    if (const auto* const failure = std::get_if<DecodeFailure>(&result)) {
      ADD_FAILURE() << failure->code << ": " << failure->message << "\n" << value;
      return {};
    }
    return std::get<Event>(result);
  }
  // The message of the last Code().
  const std::string& message() const { return message_; }
  const EventDecoder& decoder() const { return *decoder_; }

 private:
  std::unique_ptr<EventDecoder> decoder_;
  Arena arena_;
  std::string message_;
};

}  // namespace freshet
