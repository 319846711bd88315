// Which compression a file is to be written with, by its name.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace freshet {

enum class Compression { kNone, kGzip, kZstd };

// kInvalidArgument where the name promises one that freshet does not write.
inline Result<Compression> CompressionByName(std::string_view path) {
  if (path.ends_with(".gz")) return Compression::kGzip;
  if (path.ends_with(".zst")) return Compression::kZstd;
  for (const std::string_view other : {".bz2", ".xz", ".lz4", ".lzma", ".br", ".zip", ".7z"}) {
    if (path.ends_with(other)) {
      return Error(ErrorCode::kInvalidArgument, std::string(path) + ": cannot write " + std::string(other) +
                                                    ", expected a name that ends in .gz, .zst or neither");
    }
  }
  return Compression::kNone;
}

}  // namespace freshet
