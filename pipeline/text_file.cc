#include "pipeline/text_file.h"

#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include "ingest/compression.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

Error Failed(const fs::path& path, std::string_view doing) {
  return Error(ErrorCode::kIo, path.string() + ": " + std::string(doing) + ": " + std::strerror(errno));
}

// Where a file is written: there, or beside a regular file, whose place it then takes.
struct Place {
  fs::path written;
  fs::path replaced;  // empty: none
};

Place PlaceOf(const fs::path& path) {
  const fs::path file = FileAt(path);
  return file.empty() ? Place{path, {}} : Place{file.string() + kUnfinished, file};
}

class PlainFile : public TextFile {
 public:
  // Errors name `path`.
  PlainFile(fs::path path, Place place, FILE* file) : path_(std::move(path)), place_(std::move(place)), file_(file) {}
  ~PlainFile() override {
    if (file_ != nullptr) std::fclose(file_);
    if (!done_) Remove();
  }

  Status Write(std::string_view text) override {
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) return Failed(path_, "cannot be written");
    return {};
  }

  Status Close() override {
    if (std::fclose(std::exchange(file_, nullptr)) != 0) return Failed(path_, "cannot be written");
    done_ = place_.replaced.empty() || std::rename(place_.written.c_str(), place_.replaced.c_str()) == 0;
    return done_ ? Status() : Failed(path_, "cannot be replaced");
  }

 private:
  void Remove() const {
    std::error_code ignored;
    if (!place_.replaced.empty()) fs::remove(place_.written, ignored);
  }

  fs::path path_;
  Place place_;
  FILE* file_;
  bool done_ = false;
};

// zlib's stream, since gzFile hides the operating system's errors.
class GzipFile : public TextFile {
 public:
  explicit GzipFile(std::unique_ptr<TextFile> below) : below_(std::move(below)), buffer_(1 << 16) {
    constexpr int kGzip = 15 + 16;  // a window of 32 KiB, a gzip header
    ready_ = deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~GzipFile() override {
    if (ready_) deflateEnd(&stream_);
  }

  Status Write(std::string_view text) override { return Compress(text, Z_NO_FLUSH); }

  Status Close() override {
    RETURN_IF_ERROR(Compress({}, Z_FINISH));
    return below_->Close();
  }

 private:
  Status Compress(std::string_view text, int flush) {
    if (!ready_) return Error(ErrorCode::kInternal, "zlib did not start");
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream_.avail_in = static_cast<uInt>(text.size());
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      deflate(&stream_, flush);
      RETURN_IF_ERROR(below_->Write({buffer_.data(), buffer_.size() - stream_.avail_out}));
    } while (stream_.avail_out == 0);
    return {};
  }

  std::unique_ptr<TextFile> below_;
  std::vector<char> buffer_;
  z_stream stream_{};
  bool ready_ = false;
};

class ZstdFile : public TextFile {
 public:
  explicit ZstdFile(std::unique_ptr<TextFile> below)
      : below_(std::move(below)), buffer_(ZSTD_CStreamOutSize()), stream_(ZSTD_createCStream(), ZSTD_freeCStream) {}

  Status Write(std::string_view text) override { return Compress(text, ZSTD_e_continue); }

  Status Close() override {
    RETURN_IF_ERROR(Compress({}, ZSTD_e_end));
    return below_->Close();
  }

 private:
  Status Compress(std::string_view text, ZSTD_EndDirective end) {
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    size_t left = 1;
    while (end == ZSTD_e_end ? left != 0 : in.pos < in.size) {
      ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
      left = ZSTD_compressStream2(stream_.get(), &out, &in, end);
      if (ZSTD_isError(left)) return Error(ErrorCode::kInternal, std::string("zstd: ") + ZSTD_getErrorName(left));
      RETURN_IF_ERROR(below_->Write({buffer_.data(), out.pos}));
    }
    return {};
  }

  std::unique_ptr<TextFile> below_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_CStream, size_t (*)(ZSTD_CStream*)> stream_;
};

}  // namespace

fs::path FileAt(const fs::path& path) {
  std::error_code absent;
  const fs::file_type type = fs::status(path, absent).type();
  if (type != fs::file_type::regular && type != fs::file_type::not_found) return {};
  if (!fs::is_symlink(fs::symlink_status(path, absent))) return path;
  // A descriptor that is open elsewhere, as /dev/stdout is, must go on being the same file.
  if (fs::read_symlink(path, absent).native().starts_with("/proc/")) return {};
  if (fs::canonical(path.parent_path(), absent).native().starts_with("/proc/")) return {};
  return type == fs::file_type::regular ? fs::canonical(path, absent) : path;
}

Status TextFile::CheckCreatable(const fs::path& path) {
  ASSIGN_OR_RETURN([[maybe_unused]] const Compression compression, CompressionByName(path.native()));
  const Place place = PlaceOf(path);
  const fs::path folder = place.written.parent_path();
  if (place.replaced.empty() || access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return {};
  return Failed(path, "cannot be created");
}

Result<std::unique_ptr<TextFile>> TextFile::Create(const fs::path& path) {
  ASSIGN_OR_RETURN(const Compression compression, CompressionByName(path.native()));
  Place place = PlaceOf(path);
  FILE* const file = std::fopen(place.written.c_str(), "wb");
  if (file == nullptr) return Failed(path, "cannot be created");
  std::unique_ptr<TextFile> plain = std::make_unique<PlainFile>(path, std::move(place), file);
  if (compression == Compression::kGzip) return std::unique_ptr<TextFile>(std::make_unique<GzipFile>(std::move(plain)));
  if (compression == Compression::kZstd) return std::unique_ptr<TextFile>(std::make_unique<ZstdFile>(std::move(plain)));
  return plain;
}

}  // namespace freshet
