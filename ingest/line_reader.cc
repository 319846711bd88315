#include "ingest/line_reader.h"

#include <algorithm>
#include <cstring>

namespace freshet {
namespace {

constexpr size_t kReadBytes = 256 * 1024;

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteStream> bytes, size_t keep_bytes)
    : bytes_(std::move(bytes)), keep_bytes_(keep_bytes), buffer_(new char[2 * kReadBytes]), capacity_(2 * kReadBytes) {}

Result<bool> LineReader::Next(Line& line) {
  for (;;) {
    ASSIGN_OR_RETURN(const bool any, NextRaw(line));
    if (!any) return false;
    if (first_ && line.text.starts_with("\xEF\xBB\xBF")) line.text.remove_prefix(3);
    first_ = false;
    if (line.oversize_bytes == 0 && line.text.ends_with('\r')) line.text.remove_suffix(1);
    if (!line.text.empty() || !line.damage.empty()) return true;
  }
}

Result<bool> LineReader::NextRaw(Line& line) {
  line = {};
  for (size_t searched = begin_;;) {
    const void* const found = std::memchr(buffer_.get() + searched, '\n', end_ - searched);
    if (found != nullptr) {
      const size_t at = static_cast<const char*>(found) - buffer_.get();
      line.text = {buffer_.get() + begin_, at - begin_};
      begin_ = at + 1;
      if (line.text.size() > keep_bytes_) {
        line.oversize_bytes = static_cast<int64_t>(line.text.size());
        line.text = line.text.substr(0, keep_bytes_);
      }
      return true;
    }
    if (end_ - begin_ > keep_bytes_) return SkipRest(line);
    const size_t seen = end_ - begin_;
    ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) break;
    searched = begin_ + seen;
  }
  line.text = {buffer_.get() + begin_, end_ - begin_};
  begin_ = end_;
  if (!bytes_->damage().empty() && !broke_) line.damage = bytes_->damage();
  broke_ = !line.damage.empty() || broke_;
  return !line.text.empty() || !line.damage.empty();
}

Result<bool> LineReader::Fill() {
  if (begin_ > 0 && capacity_ - end_ < kReadBytes) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (capacity_ - end_ < kReadBytes) Grow(2 * capacity_);
  ASSIGN_OR_RETURN(const size_t count, bytes_->Read(buffer_.get() + end_, kReadBytes));
  end_ += count;
  return count > 0;
}

void LineReader::Grow(size_t capacity) {
  std::unique_ptr<char[]> larger(new char[capacity]);
  std::memcpy(larger.get(), buffer_.get(), end_);
  buffer_ = std::move(larger);
  capacity_ = capacity;
}

// The line at hand is too long: its beginning stays at the front of the buffer while the rest passes by behind it.
Result<bool> LineReader::SkipRest(Line& line) {
  std::memmove(buffer_.get(), buffer_.get() + begin_, keep_bytes_);
  int64_t size = static_cast<int64_t>(end_ - begin_);
  end_ = keep_bytes_;
  if (capacity_ - keep_bytes_ < kReadBytes) Grow(keep_bytes_ + kReadBytes);
  line.text = {buffer_.get(), keep_bytes_};
  for (;;) {
    ASSIGN_OR_RETURN(const size_t count, bytes_->Read(buffer_.get() + keep_bytes_, kReadBytes));
    const void* const found = std::memchr(buffer_.get() + keep_bytes_, '\n', count);
    const size_t at = found == nullptr ? count : static_cast<const char*>(found) - (buffer_.get() + keep_bytes_);
    size += static_cast<int64_t>(at);
    begin_ = keep_bytes_ + std::min(at + 1, count);
    end_ = keep_bytes_ + count;
    if (found != nullptr || count == 0) break;
  }
  line.oversize_bytes = size;
  return true;
}

}  // namespace freshet
