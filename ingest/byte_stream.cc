#include "ingest/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace freshet {
namespace {

constexpr size_t kInputBytes = 256 * 1024;

Error SystemError(const std::filesystem::path& path, const char* what, int code) {
  return Error(ErrorCode::kIo, path.string() + ": " + what + ": " + std::generic_category().message(code));
}

// An open file, read in order.
class InputFile {
 public:
  InputFile(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  InputFile(InputFile&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), position_(other.position_) {}
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  Result<size_t> Read(char* out, size_t size) {
    ssize_t count;
    do {
      count = read(descriptor_, out, size);
    } while (count < 0 && errno == EINTR);
    if (count < 0) return SystemError(path_, "cannot read", errno);
    position_ += count;
    return static_cast<size_t>(count);
  }
  Status Rewind() {
    if (lseek(descriptor_, 0, SEEK_SET) < 0) return SystemError(path_, "cannot seek", errno);
    position_ = 0;
    return {};
  }
  const std::filesystem::path& path() const { return path_; }
  int64_t position() const { return position_; }

 private:
  std::filesystem::path path_;
  int descriptor_;
  int64_t position_ = 0;
};

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(InputFile file) : file_(std::move(file)) {}
  Result<size_t> Read(char* out, size_t size) override { return file_.Read(out, size); }
  int64_t ConsumedBytes() const override { return file_.position(); }

 private:
  InputFile file_;
};

// What gzip and zstd share: a buffer of compressed bytes, and the loop around one call of the decompressor.
class CompressedStream : public ByteStream {
 public:
  explicit CompressedStream(InputFile file) : file_(std::move(file)), input_(new char[kInputBytes]) {}

  Result<size_t> Read(char* out, size_t size) override {
    size_t written = 0;
    while (written == 0 && !done_) {
      if (used_ == filled_ && !end_) RETURN_IF_ERROR(Refill());
      if (used_ == filled_ && AtBoundary()) {
        done_ = true;
      } else {
        written = Decompress(out, size);
        if (written == 0 && used_ == filled_ && end_ && !AtBoundary()) Damage("the compressed data breaks off");
      }
    }
    return written;
  }
  int64_t ConsumedBytes() const override { return file_.position() - static_cast<int64_t>(filled_ - used_); }

 protected:
  // Decompresses from Input() and tells Consume() how much of it was used; calls Damage() on bad data.
  virtual size_t Decompress(char* out, size_t size) = 0;
  // Whether the compressed bytes may end here.
  virtual bool AtBoundary() const = 0;

  std::string_view Input() const { return {input_.get() + used_, filled_ - used_}; }
  void Consume(size_t bytes) { used_ += bytes; }
  void Damage(std::string_view what) {
    done_ = true;
    damage_ = file_.path().string() + ": byte " + std::to_string(ConsumedBytes()) + ": " + std::string(what);
  }

 private:
  Status Refill() {
    ASSIGN_OR_RETURN(filled_, file_.Read(input_.get(), kInputBytes));
    used_ = 0;
    end_ = filled_ == 0;
    return {};
  }

  InputFile file_;
  std::unique_ptr<char[]> input_;
  size_t used_ = 0;
  size_t filled_ = 0;
  bool end_ = false;   // of the file
  bool done_ = false;  // nothing more will come
};

class GzipStream : public CompressedStream {
 public:
  explicit GzipStream(InputFile file) : CompressedStream(std::move(file)) { inflateInit2(&zlib_, 15 + 16); }
  ~GzipStream() override { inflateEnd(&zlib_); }

 private:
  size_t Decompress(char* out, size_t size) override {
    const std::string_view input = Input();
    if (at_boundary_) inflateReset(&zlib_);
    zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    zlib_.avail_in = static_cast<uInt>(input.size());
    zlib_.next_out = reinterpret_cast<Bytef*>(out);
    zlib_.avail_out = static_cast<uInt>(std::min<size_t>(size, 1u << 30));
    const uInt room = zlib_.avail_out;
    const int code = inflate(&zlib_, Z_NO_FLUSH);
    Consume(input.size() - zlib_.avail_in);
    at_boundary_ = code == Z_STREAM_END;
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      Damage(zlib_.msg == nullptr ? "damaged gzip data" : std::string("damaged gzip data: ") + zlib_.msg);
    }
    return room - zlib_.avail_out;
  }
  bool AtBoundary() const override { return at_boundary_; }

  z_stream zlib_{};
  bool at_boundary_ = false;  // between two members
};

class ZstdStream : public CompressedStream {
 public:
  explicit ZstdStream(InputFile file)
      : CompressedStream(std::move(file)), zstd_(ZSTD_createDStream(), ZSTD_freeDStream) {}

 private:
  size_t Decompress(char* out, size_t size) override {
    const std::string_view input = Input();
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    ZSTD_outBuffer to{out, size, 0};
    const size_t hint = ZSTD_decompressStream(zstd_.get(), &to, &in);
    Consume(in.pos);
    if (ZSTD_isError(hint)) {
      Damage(std::string("damaged zstd data: ") + ZSTD_getErrorName(hint));
    } else {
      at_boundary_ = hint == 0;
    }
    return to.pos;
  }
  bool AtBoundary() const override { return at_boundary_; }

  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> zstd_;
  bool at_boundary_ = false;  // between two frames
};

bool IsGzip(std::string_view head) { return head.starts_with("\x1f\x8b"); }
bool IsZstd(std::string_view head) {
  const bool skippable = head.size() == 4 && (head[0] & 0xF0) == 0x50 && head.substr(1) == "\x2a\x4d\x18";
  return head == "\x28\xb5\x2f\xfd" || skippable;
}

// The name of a compression that is not read; empty: none is known by these bytes.
std::string_view OtherCompression(std::string_view head) {
  if (head.starts_with("BZh") && head.size() == 4 && head[3] >= '1' && head[3] <= '9') return "bzip2";
  if (head == std::string_view("\xfd\x37zX")) return "xz";
  if (head == std::string_view("PK\x03\x04")) return "zip";
  if (head == std::string_view("\x04\x22\x4d\x18")) return "lz4";
  return "";
}

}  // namespace

Result<std::unique_ptr<ByteStream>> ByteStream::Open(const std::filesystem::path& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(path, "cannot open", errno);
  InputFile file(path, descriptor);
  struct stat status;
  if (fstat(descriptor, &status) != 0) return SystemError(path, "cannot stat", errno);
  if (!S_ISREG(status.st_mode)) {
    return Error(ErrorCode::kIo, path.string() + ": is " +
                                     (S_ISDIR(status.st_mode) ? "a directory" : "not a regular file") +
                                     ", expected a log file");
  }
  char head[4];
  ASSIGN_OR_RETURN(const size_t size, file.Read(head, sizeof(head)));
  RETURN_IF_ERROR(file.Rewind());
  if (IsGzip({head, size})) return std::unique_ptr<ByteStream>(new GzipStream(std::move(file)));
  if (IsZstd({head, size})) return std::unique_ptr<ByteStream>(new ZstdStream(std::move(file)));
  if (const std::string_view other = OtherCompression({head, size}); !other.empty()) {
    return Error(ErrorCode::kIo,
                 path.string() + ": is compressed with " + std::string(other) + ", expected plain, gzip or zstd");
  }
  return std::unique_ptr<ByteStream>(new PlainStream(std::move(file)));
}

}  // namespace freshet
