// A bump allocator for the payloads of one batch: views stay valid until Reset(), which keeps the memory for the next
// batch.
//
// Threads: one owner. After a few batches a steady load allocates nothing.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace freshet {

class Arena {
 public:
  // Readable bytes after every allocation, so that vectorised parsers may read past its end.
  static constexpr size_t kPadding = 64;

  // `size` bytes, uninitialised.
  char* Allocate(size_t size) {
    const size_t needed = size + kPadding;
    while (current_ < chunks_.size() && chunks_[current_].size - used_ < needed) {
      ++current_;
      used_ = 0;
    }
    if (current_ == chunks_.size()) {
      const size_t chunk_size = needed > kChunkBytes ? needed : kChunkBytes;
      chunks_.push_back({std::unique_ptr<char[]>(new char[chunk_size]()), chunk_size});
      used_ = 0;
    }
    char* const memory = chunks_[current_].memory.get() + used_;
    used_ += size;
    return memory;
  }

  std::string_view Copy(std::string_view bytes) {
    if (bytes.empty()) return {};
    char* const memory = Allocate(bytes.size());
    std::memcpy(memory, bytes.data(), bytes.size());
    return {memory, bytes.size()};
  }

  // All views die. Chunks of unusual size are given back, so that one huge record does not stay for ever.
  void Reset() {
    std::erase_if(chunks_, [](const Chunk& chunk) { return chunk.size > kChunkBytes; });
    current_ = 0;
    used_ = 0;
  }

 private:
  static constexpr size_t kChunkBytes = 256 * 1024;
  struct Chunk {
    std::unique_ptr<char[]> memory;
    size_t size;
  };
  std::vector<Chunk> chunks_;
  size_t current_ = 0;
  size_t used_ = 0;
};

}  // namespace freshet
