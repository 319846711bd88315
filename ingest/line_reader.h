// The lines of a log file, in bounded memory whatever the file holds.
//
// A byte order mark at the file's start and a carriage return before a line's end are not part of a line; an empty line
// is none. The last line needs no line end. Threads: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "core/result.h"
#include "ingest/byte_stream.h"

namespace freshet {

struct Line {
  std::string_view text;       // valid until the next call
  int64_t oversize_bytes = 0;  // > 0: the line has this many bytes and `text` is only its beginning
  std::string_view damage;     // not empty: the file breaks off here, see ByteStream::damage()
};

class LineReader {
 public:
  // Of a line longer than `keep_bytes` only so many bytes are kept.
  LineReader(std::unique_ptr<ByteStream> bytes, size_t keep_bytes);

  // The next line; false at the end. A damaged file ends with one line that carries `damage` and what is left.
  Result<bool> Next(Line& line);

  // Bytes of the file behind what was returned; of a compressed file those that were decompressed.
  int64_t ConsumedBytes() const { return bytes_->ConsumedBytes(); }

 private:
  Result<bool> NextRaw(Line& line);
  Result<bool> SkipRest(Line& line);
  // Reads more behind end_; false at the end.
  Result<bool> Fill();
  void Grow(size_t capacity);

  std::unique_ptr<ByteStream> bytes_;
  size_t keep_bytes_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_;
  size_t begin_ = 0;  // of the line at hand
  size_t end_ = 0;    // of what was read
  bool first_ = true;
  bool broke_ = false;
};

}  // namespace freshet
