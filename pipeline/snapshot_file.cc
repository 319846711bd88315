#include "pipeline/snapshot_file.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "ingest/byte_stream.h"
#include "pipeline/text_file.h"
#include "state/snapshot.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

constexpr char kContents[] = "CONTENTS";
constexpr std::string_view kWhole = "whole\n";
constexpr std::string_view kMagic = "freshet-snapshot ";
constexpr size_t kLengthBytes = 2 * sizeof(uint32_t);
constexpr uint32_t kMostBytes = 64 << 20;  // of a key or a value; the longest state.history takes 20 MB
constexpr size_t kMostHeaderBytes = 1024;
constexpr size_t kUsersAtOnce = 1000;

std::string FileName(PartitionId partition) {
  char name[40];
  std::snprintf(name, sizeof(name), "partition-%05d.snapshot.zst", Raw(partition));
  return name;
}

std::string Header(PartitionId partition, const SnapshotOwner& owner) {
  return std::string(kMagic) + "1: partition " + std::to_string(Raw(partition)) + " of " +
         std::to_string(owner.partitions) + ", " + owner.whose;
}

Error Failed(const fs::path& path, const std::string& doing, const std::error_code& error) {
  return Error(ErrorCode::kIo, path.string() + ": cannot " + doing + ": " + error.message());
}

// Of a file or a directory.
Status Sync(const fs::path& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && fsync(descriptor) == 0;
  const std::error_code error(errno, std::generic_category());
  if (descriptor >= 0) close(descriptor);
  return synced ? Status() : Status(Failed(path, "be written", error));
}

Status WriteRecord(TextFile& file, const std::string& key, std::string_view payload) {
  const std::string value = EncodeSnapshot(key, payload);
  const uint32_t lengths[2] = {static_cast<uint32_t>(key.size()), static_cast<uint32_t>(value.size())};
  RETURN_IF_ERROR(file.Write({reinterpret_cast<const char*>(lengths), kLengthBytes}));
  RETURN_IF_ERROR(file.Write(key));
  return file.Write(value);
}

class SnapshotFile final : public EventSource {
 public:
  // Up to the first record; kInvalidArgument where the file is of another owner or partition.
  static Result<std::unique_ptr<SnapshotFile>> Open(const fs::path& path, PartitionId partition,
                                                    const SnapshotOwner& owner) {
    ASSIGN_OR_RETURN(std::unique_ptr<ByteStream> bytes, ByteStream::Open(path));
    std::unique_ptr<SnapshotFile> file(new SnapshotFile(path, partition, std::move(bytes)));
    RETURN_IF_ERROR(file->CheckHeader(Header(partition, owner)));
    return file;
  }

  Status Open(AssignmentListener&) override { return {}; }
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds) override {
    const std::string_view name = batch.arena.Copy(path_.string());
    for (size_t n = 0; n < max_records && !done_; ++n) {
      RawRecord& record = batch.records.emplace_back();
      record.topic = name;
      record.partition = record.shown_partition = partition_;
      record.offset = record.shown_offset = Offset{records_};
      RETURN_IF_ERROR(ReadRecord(record, batch.arena));
      ++records_;
    }
    return done_ ? PollState::kEnd : PollState::kMore;
  }
  Status Commit(std::span<const PartitionPosition>) override { return {}; }
  Status Close() override { return {}; }
  std::optional<double> Progress() const override {
    return size_ <= 0 ? 1.0 : static_cast<double>(bytes_->ConsumedBytes()) / static_cast<double>(size_);
  }

 private:
  SnapshotFile(fs::path path, PartitionId partition, std::unique_ptr<ByteStream> bytes)
      : path_(std::move(path)), partition_(partition), bytes_(std::move(bytes)), buffer_(256 << 10) {
    std::error_code unknown;
    const auto size = fs::file_size(path_, unknown);
    if (!unknown) size_ = static_cast<int64_t>(size);
  }

  // Exactly `size` bytes; false where the file ends before them.
  Result<bool> Take(char* out, size_t size) {
    while (size > 0) {
      if (used_ == filled_) {
        ASSIGN_OR_RETURN(filled_, bytes_->Read(buffer_.data(), buffer_.size()));
        used_ = 0;
        if (filled_ == 0 && !bytes_->damage().empty()) return Damaged(bytes_->damage());
        if (filled_ == 0) return false;
      }
      const size_t count = std::min(size, filled_ - used_);
      std::memcpy(out, buffer_.data() + used_, count);
      used_ += count;
      out += count;
      size -= count;
      taken_ += static_cast<int64_t>(count);
    }
    return true;
  }

  Status CheckHeader(const std::string& expected) {
    std::string found;
    for (char next = 0; found.size() < kMostHeaderBytes; found.push_back(next)) {
      ASSIGN_OR_RETURN(const bool any, Take(&next, 1));
      if (!any || next == '\n') break;
    }
    if (found == expected) return {};
    // What is not ours may be anything at all.
    const bool ours = found.starts_with(kMagic);
    return Error(ours ? ErrorCode::kInvalidArgument : ErrorCode::kCorrupt,
                 "snapshot " + path_.string() + ": found " + (ours ? "\"" + found + "\"" : "no header") +
                     ", expected \"" + expected + "\"");
  }

  Status ReadRecord(RawRecord& record, Arena& arena) {
    begin_ = taken_;
    uint32_t lengths[2] = {0, 0};
    ASSIGN_OR_RETURN(const bool any, Take(reinterpret_cast<char*>(lengths), kLengthBytes));
    if (!any) return Damaged("the file ends, expected a watermark as its last record");
    if (std::max(lengths[0], lengths[1]) > kMostBytes) {
      return Damaged("found lengths " + std::to_string(lengths[0]) + " and " + std::to_string(lengths[1]) +
                     ", expected at most " + std::to_string(kMostBytes));
    }
    char* const key = arena.Allocate(lengths[0] + lengths[1]);
    ASSIGN_OR_RETURN(const bool whole, Take(key, lengths[0] + lengths[1]));
    if (!whole) return Damaged("the file ends within it");
    record.key = {key, lengths[0]};
    record.value = {key + lengths[0], lengths[1]};
    const Result<std::string_view> payload = DecodeSnapshot(record.key, record.value);
    if (!payload.ok()) return Damaged(payload.error().message());
    done_ = IsWatermarkKey(record.key);
    if (!done_) return {};
    char more = 0;
    ASSIGN_OR_RETURN(const bool trailing, Take(&more, 1));
    return trailing ? Status(Damaged("is the watermark, found more bytes behind it")) : Status();
  }

  Error Damaged(const std::string& what) const {
    return Error(ErrorCode::kCorrupt, "snapshot " + path_.string() + ": record " + std::to_string(records_) +
                                          ", at byte " + std::to_string(begin_) + " of the content: " + what +
                                          ". Restore from another snapshot, or without --snapshot");
  }

  const fs::path path_;
  const PartitionId partition_;
  const std::unique_ptr<ByteStream> bytes_;
  int64_t size_ = 0;
  std::vector<char> buffer_;
  size_t used_ = 0;
  size_t filled_ = 0;
  int64_t taken_ = 0;    // bytes of the content
  int64_t begin_ = 0;    // where the running record begins
  int64_t records_ = 0;  // before it
  bool done_ = false;
};

// What CONTENTS names is there: a snapshot that was interrupted, or lost a file since, is none.
Status CheckContents(const fs::path& directory) {
  std::ifstream file(directory / kContents, std::ios::binary);
  const std::string contents((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!contents.ends_with(kWhole)) {
    return Error(ErrorCode::kCorrupt, "--snapshot: " + directory.string() + ": not a whole snapshot: " + kContents +
                                          (file.is_open() ? " breaks off" : " is missing, which is written last"));
  }
  std::istringstream names(contents.substr(0, contents.size() - kWhole.size()));
  for (std::string name; std::getline(names, name);) {
    std::error_code error;
    if (fs::exists(directory / name, error)) continue;
    return Error(ErrorCode::kCorrupt, "--snapshot: " + (directory / name).string() + " is missing, which " + kContents +
                                          " names. Restore from another snapshot, or without --snapshot");
  }
  return {};
}

}  // namespace

NewSnapshot::NewSnapshot(fs::path directory, SnapshotOwner owner)
    : directory_(std::move(directory)), incomplete_(directory_.string() + ".incomplete"), owner_(std::move(owner)) {}

NewSnapshot::~NewSnapshot() {
  std::error_code error;  // what stays is in the way of the next try, which says so
  if (created_) fs::remove_all(incomplete_, error);
}

Result<std::unique_ptr<NewSnapshot>> NewSnapshot::Begin(const fs::path& directory, SnapshotOwner owner) {
  const fs::path named = directory.has_filename() ? directory : directory.parent_path();  // "backup/" is "backup"
  std::unique_ptr<NewSnapshot> snapshot(new NewSnapshot(named, std::move(owner)));
  std::error_code error;
  if (fs::exists(named, error) && (!fs::is_directory(named, error) || !fs::is_empty(named, error))) {
    return Error(ErrorCode::kInvalidArgument, named.string() + ": expected a new or an empty directory");
  }
  if (named.has_parent_path()) fs::create_directories(named.parent_path(), error);
  const fs::path& incomplete = snapshot->incomplete_;
  snapshot->created_ = fs::create_directory(incomplete, error);
  if (error) return Failed(incomplete, "be made", error);
  if (snapshot->created_) return snapshot;
  return Error(ErrorCode::kInvalidArgument,
               incomplete.string() + ": is there, left by a snapshot that was interrupted or is being made: remove it");
}

Result<int64_t> NewSnapshot::Add(PartitionId partition, UserStateStore& store,
                                 const std::function<Status(int64_t)>& progress) {
  const fs::path path = incomplete_ / FileName(partition);
  ASSIGN_OR_RETURN(const int64_t users, Write(path, partition, store, progress));
  RETURN_IF_ERROR(Sync(path));
  contents_ += FileName(partition) + "\n";
  return users;
}

Result<int64_t> NewSnapshot::Write(const fs::path& path, PartitionId partition, UserStateStore& store,
                                   const std::function<Status(int64_t)>& progress) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<TextFile> file, TextFile::Create(path));
  RETURN_IF_ERROR(file->Write(Header(partition, owner_) + "\n"));
  int64_t users = 0;
  std::string after;
  for (bool more = true; more;) {
    Status written;
    const auto write = [&](const StoredUser& user) {
      written = WriteRecord(*file, SnapshotUserKey(user.id), user.bytes);
      users += user.forgotten ? 0 : 1;
      return written.ok();
    };
    ASSIGN_OR_RETURN(more, store.Scan(after, kUsersAtOnce, write));
    RETURN_IF_ERROR(written);
    RETURN_IF_ERROR(progress(users));
  }
  const Watermark watermark{*store.Position(), owner_.whose};
  RETURN_IF_ERROR(WriteRecord(*file, WatermarkKey(owner_.whose), EncodeWatermark(watermark)));
  RETURN_IF_ERROR(file->Close());
  return users;
}

Status NewSnapshot::AddFile(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return {};
  const fs::path copy = incomplete_ / file.filename();
  fs::copy_file(file, copy, error);
  if (error) return Failed(copy, "be written", error);
  contents_ += file.filename().string() + "\n";
  return Sync(copy);
}

Status NewSnapshot::Finish() {
  const fs::path contents = incomplete_ / kContents;
  ASSIGN_OR_RETURN(const std::unique_ptr<TextFile> file, TextFile::Create(contents));
  RETURN_IF_ERROR(file->Write(contents_));
  RETURN_IF_ERROR(file->Write(kWhole));
  RETURN_IF_ERROR(file->Close());
  RETURN_IF_ERROR(Sync(contents));
  RETURN_IF_ERROR(Sync(incomplete_));
  std::error_code error;
  fs::rename(incomplete_, directory_, error);
  if (error) return Failed(directory_, "be made", error);
  created_ = false;
  return Sync(directory_.has_parent_path() ? directory_.parent_path() : ".");
}

SnapshotFiles::SnapshotFiles(fs::path directory, SnapshotOwner owner)
    : directory_(std::move(directory)), owner_(std::move(owner)) {}

Result<SnapshotFiles> SnapshotFiles::Find(const fs::path& directory, SnapshotOwner owner) {
  SnapshotFiles files(directory, std::move(owner));
  int found = 0;
  for (int p = 0; p < files.owner_.partitions; ++p) {
    ASSIGN_OR_RETURN(const std::unique_ptr<EventSource> file, files.Read(PartitionId{p}));
    if (file == nullptr) continue;
    ++found;
    RecordBatch batch;
    for (PollState state = PollState::kMore; state != PollState::kEnd; batch.Clear()) {
      ASSIGN_OR_RETURN(state, file->Poll(batch, kUsersAtOnce, {}));
    }
  }
  if (found == 0) {
    return Error(ErrorCode::kInvalidArgument, "--snapshot: " + directory.string() + ": holds none of " +
                                                  FileName(PartitionId{0}) + " to " +
                                                  FileName(PartitionId{files.owner_.partitions - 1}));
  }
  RETURN_IF_ERROR(CheckContents(directory));
  spdlog::info("{}: a snapshot of {} of the {} partitions of {}", directory.string(), found, files.owner_.partitions,
               files.owner_.whose);
  return files;
}

Result<std::unique_ptr<EventSource>> SnapshotFiles::Read(PartitionId partition) const {
  const fs::path path = directory_ / FileName(partition);
  std::error_code error;
  if (!fs::exists(path, error) && !error) return std::unique_ptr<EventSource>();
  ASSIGN_OR_RETURN(std::unique_ptr<EventSource> file, SnapshotFile::Open(path, partition, owner_));
  return file;
}

}  // namespace freshet
