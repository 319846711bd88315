// The bytes of a plain, gzip or zstd file, told apart by its first bytes, not by its name. Streams in bounded memory.
//
// Several gzip members or zstd frames in one file are read as one. Threads: one owner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/result.h"

namespace freshet {

class ByteStream {
 public:
  // kIo where the path is no readable regular file, or is compressed with something else.
  static Result<std::unique_ptr<ByteStream>> Open(const std::filesystem::path& path);

  virtual ~ByteStream() = default;

  // Up to `size` > 0 bytes into `out`; 0 at the end. A compressed file that is damaged or breaks off ends there, and
  // damage() says so. kIo where the system cannot read.
  virtual Result<size_t> Read(char* out, size_t size) = 0;

  // Empty, or what is wrong with the compressed bytes and where: "file.gz: byte 1234: …".
  const std::string& damage() const { return damage_; }
  // Bytes of the file taken so far.
  virtual int64_t ConsumedBytes() const = 0;

 protected:
  std::string damage_;
};

}  // namespace freshet
