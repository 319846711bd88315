// A new file of text, written once from its beginning to its end: plain, gzip (.gz) or zstd (.zst) by its name.
//
// Threads: one owner. Errors name the file and what the operating system said.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "core/result.h"

namespace freshet {

class TextFile {
 public:
  // Replaces a file that is there.
  static Result<std::unique_ptr<TextFile>> Create(const std::filesystem::path& path);
  virtual ~TextFile() = default;  // without Close(), the file is left as it is

  virtual Status Write(std::string_view text) = 0;
  // Writes what is held back. Only then the file is whole.
  virtual Status Close() = 0;
};

}  // namespace freshet
