#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "ingest/compression.h"
#include "ingest/encoder.h"
#include "ingest/log_files.h"

namespace freshet {
namespace {

constexpr int kGzipLevel = 1;  // an output of megabytes a second must not make compression the bottleneck
constexpr int kZstdLevel = 1;

Error SystemError(const std::string& path, const std::string& what, int code) {
  return Error(ErrorCode::kIo, path + ": " + what + ": " + std::generic_category().message(code));
}

// `bytes` as one gzip member.
Result<std::string> Gzip(std::string_view bytes) {
  z_stream zlib{};
  if (deflateInit2(&zlib, kGzipLevel, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return Error(ErrorCode::kInternal, "zlib cannot be set up");
  }
  std::string out(deflateBound(&zlib, bytes.size()), '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  zlib.avail_in = static_cast<uInt>(bytes.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  const int code = deflate(&zlib, Z_FINISH);
  out.resize(zlib.total_out);
  deflateEnd(&zlib);
  if (code != Z_STREAM_END) return Error(ErrorCode::kInternal, "zlib: code " + std::to_string(code));
  return out;
}

// `bytes` as one zstd frame.
Result<std::string> Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
  if (ZSTD_isError(size)) return Error(ErrorCode::kInternal, std::string("zstd: ") + ZSTD_getErrorName(size));
  out.resize(size);
  return out;
}

}  // namespace

// A shared output. Append() and what follows it need mutex(), which the sinks hold until the commit log is written, so
// that nothing of another worker lies below a committed length.
class OutputFile {
 public:
  OutputFile(std::string path, std::string name, int descriptor, bool regular, int64_t length, Compression compression)
      : path_(std::move(path)),
        name_(std::move(name)),
        descriptor_(descriptor),
        regular_(regular),
        length_(length),
        compression_(compression) {}
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile() {
    if (descriptor_ > STDERR_FILENO) close(descriptor_);
  }

  std::mutex& mutex() { return mutex_; }
  // Known to the commit log by this; meaningless where !regular().
  const std::string& name() const { return name_; }
  bool regular() const { return regular_; }
  int64_t length() const { return length_; }
  bool nowhere() const { return descriptor_ < 0; }

  // `bytes` in the form of the file.
  Result<std::string> Compress(std::string bytes) const {
    switch (compression_) {
      case Compression::kGzip:
        return Gzip(bytes);
      case Compression::kZstd:
        return Zstd(bytes);
      case Compression::kNone:
        break;
    }
    return bytes;
  }

  // All of `bytes`, or an error with the file as it was.
  Status Append(std::string_view bytes) {
    const int64_t before = length_;
    while (!bytes.empty()) {
      const ssize_t count = write(descriptor_, bytes.data(), std::min(bytes.size(), kWriteBytes));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        const int code = errno;
        const std::string where = " bytes at " + std::to_string(length_);
        CutBack(before);
        return SystemError(path_, "cannot write " + std::to_string(bytes.size()) + where, code);
      }
      length_ += count;
      bytes.remove_prefix(static_cast<size_t>(count));
      WriteBehind();
    }
    return {};
  }

  void CutBack(int64_t length) {
    if (!regular_ || length_ == length) return;
    // A file that cannot be cut here is cut when it is opened again: the commit log has the length.
    if (ftruncate(descriptor_, length) == 0 && lseek(descriptor_, length, SEEK_SET) == length) length_ = length;
    started_ = dropped_ = std::min(dropped_, length_);
  }

 private:
  static constexpr size_t kWriteBytes = size_t{1} << 20;
  static constexpr int64_t kWindowBytes = int64_t{8} << 20;

  // Sends full windows to the disk and gives the page cache of the one before back. A backfill writes far more than
  // anybody reads soon: left to itself it pushes everything else out of memory, and taking ever new pages costs several
  // times the copy (docs/decisions.md). Best effort: where the file system knows no such calls, nothing is lost but
  // that.
  void WriteBehind() {
    if (!regular_) return;
    for (; length_ - started_ >= kWindowBytes; started_ += kWindowBytes) {
      sync_file_range(descriptor_, started_, kWindowBytes, SYNC_FILE_RANGE_WRITE);
      if (dropped_ == started_) continue;
      sync_file_range(descriptor_, dropped_, started_ - dropped_,
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      posix_fadvise(descriptor_, dropped_, started_ - dropped_, POSIX_FADV_DONTNEED);
      dropped_ = started_;
    }
  }

  const std::string path_;
  const std::string name_;
  const int descriptor_;
  const bool regular_;
  std::mutex mutex_;
  int64_t length_;
  int64_t started_ = length_;  // sent to the disk up to here
  int64_t dropped_ = length_;  // and out of the page cache up to here
  const Compression compression_;
};

namespace {

constexpr auto kReaderPoll = std::chrono::milliseconds(20);

// A descriptor for writing. open() would wait for a pipe's reader whatever signals come.
Result<int> OpenForWriting(const std::string& path, const std::function<bool()>& keep_waiting) {
  int descriptor = -1;
  while ((descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644)) < 0 && errno == ENXIO) {
    if (!keep_waiting) return SystemError(path, "nobody reads this pipe", ENXIO);
    if (!keep_waiting()) return Error(ErrorCode::kCancelled, path + ": interrupted before anybody read this pipe");
    std::this_thread::sleep_for(kReaderPoll);
  }
  if (descriptor < 0) return SystemError(path, "cannot open for writing", errno);
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags >= 0 && fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK) == 0) return descriptor;
  const int code = errno;
  close(descriptor);
  return SystemError(path, "cannot open for writing", code);
}

}  // namespace

Result<std::shared_ptr<OutputFile>> OpenOutputFile(const std::string& path, CommitLog& commit_log, bool anew,
                                                   const std::function<bool()>& keep_waiting) {
  if (path.empty()) return std::make_shared<OutputFile>(path, path, -1, false, 0, Compression::kNone);
  if (path == "-")
    return std::make_shared<OutputFile>("standard output", path, STDOUT_FILENO, false, 0, Compression::kNone);
  ASSIGN_OR_RETURN(const Compression compression, CompressionByName(path));
  ASSIGN_OR_RETURN(const int descriptor, OpenForWriting(path, keep_waiting));
  struct stat status {};
  const bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const std::string name = std::filesystem::absolute(path).lexically_normal().string();
  const std::optional<int64_t> known = commit_log.OutputLength(name);
  const int64_t committed = anew ? 0 : known.value_or(0);
  auto file =
      std::make_shared<OutputFile>(path, name, descriptor, regular, committed, compression);  // closes it from here on
  if (!regular) return file;
  // Held until the file is closed: two programs that append by their own commit logs would ruin it.
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0)
    return Error(ErrorCode::kIo, path + ": is being written by another process");
  if (!known && !anew && status.st_size > 0 && commit_log.Begun()) {
    return Error(ErrorCode::kNeedsDecision,
                 path + ": holds " + std::to_string(status.st_size) +
                     " bytes that the commit log of this state does not know; remove the file, or name another output");
  }
  const std::pair<std::string, int64_t> empty(name, 0);
  if (anew || !known) RETURN_IF_ERROR(commit_log.Commit({}, std::span(&empty, 1)));
  if (status.st_size < committed) {
    return Error(ErrorCode::kNeedsDecision,
                 path + ": has " + std::to_string(status.st_size) + " bytes, but " + std::to_string(committed) +
                     " were committed; put the file back, or begin with another state.directory");
  }
  if (ftruncate(descriptor, committed) != 0) return SystemError(path, "cannot cut to its committed length", errno);
  if (lseek(descriptor, committed, SEEK_SET) < 0) return SystemError(path, "cannot seek", errno);
  return file;
}

namespace {

class FileSink : public RecordSink {
 public:
  FileSink(std::shared_ptr<OutputFile> recommendations, std::shared_ptr<OutputFile> dead_letters, CommitLog& commit_log)
      : commit_log_(commit_log), outputs_{{{std::move(recommendations), {}}, {std::move(dead_letters), {}}}} {}

  Status Publish(std::span<const OutputRecord> records) override {
    for (const OutputRecord& record : records) {
      const bool answer = record.stream == Stream::kRecommendations;
      Output& output = outputs_[answer ? 0 : 1];
      if (output.file->nowhere()) continue;
      if (answer && record.value.data() == nullptr) continue;  // a tombstone: a file is not compacted
      if (answer) {
        output.pending.append(record.value);
      } else {
        EncodeDeadLetter(record, output.pending);
      }
      output.pending.push_back('\n');
    }
    return {};
  }

  Status Commit(std::span<const PartitionPosition> positions) override {
    for (Output& output : outputs_) {
      if (output.pending.empty()) continue;
      ASSIGN_OR_RETURN(output.pending, output.file->Compress(std::move(output.pending)));
    }
    const std::scoped_lock lock(outputs_[0].file->mutex(), outputs_[1].file->mutex());
    const int64_t before[] = {outputs_[0].file->length(), outputs_[1].file->length()};
    const Status status = Write(positions);
    for (int i = 0; i < 2; ++i) {
      if (!status.ok()) outputs_[i].file->CutBack(before[i]);
      outputs_[i].pending.clear();
    }
    return status;
  }

  Status Abort() override {
    for (Output& output : outputs_) output.pending.clear();
    return {};
  }

 private:
  struct Output {
    std::shared_ptr<OutputFile> file;
    std::string pending;
  };

  Status Write(std::span<const PartitionPosition> positions) {
    std::vector<std::pair<std::string, int64_t>> lengths;
    for (const Output& output : outputs_) {
      RETURN_IF_ERROR(output.file->Append(output.pending));
      if (output.file->regular()) lengths.emplace_back(output.file->name(), output.file->length());
    }
    return commit_log_.Commit(positions, lengths);
  }

  CommitLog& commit_log_;
  std::array<Output, 2> outputs_;  // recommendations, dead letters
};

}  // namespace

std::unique_ptr<RecordSink> MakeFileSink(std::shared_ptr<OutputFile> recommendations,
                                         std::shared_ptr<OutputFile> dead_letters, CommitLog& commit_log) {
  return std::make_unique<FileSink>(std::move(recommendations), std::move(dead_letters), commit_log);
}

}  // namespace freshet
