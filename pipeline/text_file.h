// A new file of text, written once from its beginning to its end: plain, gzip (.gz) or zstd (.zst) by its name.
//
// It is written beside the file that is there (as its name.new), which stays until Close(): nothing that goes wrong
// leaves half a file. Pipes, devices and what /dev/stdout leads to are written as they are.
//
// Threads: one owner. Errors name the file and what the operating system said.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "core/result.h"

namespace freshet {

// The regular file that what is written to `path` makes or replaces, links followed. Empty: it is a pipe, a device or a
// descriptor (/dev/stdout), and nothing has its place beside it.
std::filesystem::path FileAt(const std::filesystem::path& path);

// Behind the name of a file while it is written.
inline constexpr char kUnfinished[] = ".new";

class TextFile {
 public:
  static Result<std::unique_ptr<TextFile>> Create(const std::filesystem::path& path);
  // What Create() would refuse, before there is anything to write: a compression that is not known, a folder that is
  // not there or takes no files.
  static Status CheckCreatable(const std::filesystem::path& path);
  virtual ~TextFile() = default;  // without Close(), what was written is removed

  virtual Status Write(std::string_view text) = 0;
  // Writes what is held back, and replaces a file that is there.
  virtual Status Close() = 0;
};

}  // namespace freshet
