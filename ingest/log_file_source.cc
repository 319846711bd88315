#include <algorithm>
#include <system_error>
#include <utility>

#include "core/hash.h"
#include "ingest/line_reader.h"
#include "ingest/log_files.h"

namespace freshet {
namespace {

// A batch of huge records ends early, so that max_records of them need not fit memory.
constexpr size_t kMaxBatchBytes = 32 << 20;

class LogFileSource : public EventSource {
 public:
  LogFileSource(LogFileOptions options, const CommitLog& commit_log)
      : options_(std::move(options)), commit_log_(commit_log) {}

  Status Open(AssignmentListener& listener) override;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override;
  // The commit log is written with the outputs; there is nothing else to tell.
  Status Commit(std::span<const PartitionPosition>) override { return {}; }
  Status Close() override;
  std::optional<double> Progress() const override;

 private:
  struct File {
    std::filesystem::path path;
    std::string name;
    int64_t index;
    int64_t size;
  };

  Status Assign();
  // Opens the first file from next_file_ on that is not done, at position_; false behind the last.
  Result<bool> OpenNext();
  Result<std::unique_ptr<LineReader>> OpenFile(const File& file);
  Status ReadRecords(RecordBatch& batch, size_t max_records, bool& end);
  void Append(const Line& line, RecordBatch& batch);
  void Advance(RecordBatch& batch);

  const LogFileOptions options_;
  const CommitLog& commit_log_;
  AssignmentListener* listener_ = nullptr;
  std::vector<File> files_;  // by index
  bool assigned_ = false;
  std::vector<PartitionPosition> owned_;  // next offset of each partition of this worker

  Offset position_{};         // of the next record to read
  size_t next_file_ = 0;      // in files_: the one to open next
  int64_t bytes_before_ = 0;  // of the files before the open one
  std::unique_ptr<LineReader> reader_;
  std::string header_;
  std::string_view batch_topic_;  // copies in the batch at hand, made with its first record of a file
  std::string_view batch_header_;
};

Status LogFileSource::Open(AssignmentListener& listener) {
  listener_ = &listener;
  for (const std::filesystem::path& path : options_.paths) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    files_.push_back(
        {path, path.filename().string(), commit_log_.FileIndex(path), error ? 0 : static_cast<int64_t>(size)});
    ASSIGN_OR_RETURN(const auto reader, OpenFile(files_.back()));
  }
  std::sort(files_.begin(), files_.end(), [](const File& a, const File& b) { return a.index < b.index; });
  return {};
}

Result<std::unique_ptr<LineReader>> LogFileSource::OpenFile(const File& file) {
  ASSIGN_OR_RETURN(auto bytes, ByteStream::Open(file.path));
  auto reader = std::make_unique<LineReader>(std::move(bytes), options_.keep_record_bytes);
  header_.clear();
  if (!options_.has_header) return reader;
  Line line;
  ASSIGN_OR_RETURN(const bool any, reader->Next(line));
  if (any && !line.damage.empty()) {  // no header can be had: the damage is the file's only record
    ASSIGN_OR_RETURN(bytes, ByteStream::Open(file.path));
    return std::make_unique<LineReader>(std::move(bytes), options_.keep_record_bytes);
  }
  if (!any) return reader;
  header_ = line.text;
  const Status status = options_.check_header ? options_.check_header(header_) : Status();
  if (!status.ok()) return status.error().At(file.path.string());
  return reader;
}

Status LogFileSource::Assign() {
  assigned_ = true;
  for (int p = options_.worker; p < options_.partitions; p += options_.workers) {
    const PartitionId partition{p};
    ASSIGN_OR_RETURN(const auto position, listener_->OnAssigned({partition, commit_log_.Committed(partition)}));
    RETURN_IF_ERROR(commit_log_.CheckState(partition, position));
    owned_.push_back({partition, position.value_or(Offset{0})});
  }
  const auto first =
      std::min_element(owned_.begin(), owned_.end(), [](const auto& a, const auto& b) { return a.next < b.next; });
  if (first == owned_.end()) {
    next_file_ = files_.size();
  } else {
    position_ = first->next;
    RETURN_IF_ERROR(commit_log_.CheckNamed(options_.paths, position_));  // state may be behind what was committed
  }
  return {};
}

Result<PollState> LogFileSource::Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds) {
  if (!assigned_) RETURN_IF_ERROR(Assign());
  batch_topic_ = {};
  bool end = false;
  RETURN_IF_ERROR(ReadRecords(batch, max_records, end));
  Advance(batch);
  return end ? PollState::kEnd : PollState::kMore;
}

Status LogFileSource::ReadRecords(RecordBatch& batch, size_t max_records, bool& end) {
  size_t bytes = 0;
  for (size_t delivered = 0; delivered < max_records && bytes < kMaxBatchBytes;) {
    if (reader_ == nullptr) {
      ASSIGN_OR_RETURN(const bool any, OpenNext());
      if (!any) {
        end = true;
        return {};
      }
    }
    Line line;
    ASSIGN_OR_RETURN(const bool any, reader_->Next(line));
    if (any) {
      Append(line, batch);
      bytes += line.text.size();
      ++delivered;
    } else {
      const File& done = files_[next_file_ - 1];
      reader_.reset();
      bytes_before_ += done.size;
      position_ = LogOffset(done.index + 1, 0);
    }
  }
  return {};
}

Result<bool> LogFileSource::OpenNext() {
  for (; next_file_ < files_.size() && files_[next_file_].index < FileIndexOf(position_); ++next_file_) {
    bytes_before_ += files_[next_file_].size;
  }
  if (next_file_ == files_.size()) return false;
  const File& file = files_[next_file_++];
  batch_topic_ = {};
  position_ = std::max(position_, LogOffset(file.index, 0));
  ASSIGN_OR_RETURN(reader_, OpenFile(file));
  Line line;
  for (int64_t skip = OrdinalOf(position_); skip > 0; --skip) {
    ASSIGN_OR_RETURN(const bool any, reader_->Next(line));
    if (!any) break;
  }
  return true;
}

void LogFileSource::Append(const Line& line, RecordBatch& batch) {
  if (batch_topic_.data() == nullptr) {
    batch_topic_ = batch.arena.Copy(files_[next_file_ - 1].name);
    batch_header_ = batch.arena.Copy(header_);
  }
  RawRecord& record = batch.records.emplace_back();
  record.topic = batch_topic_;
  record.partition = kPartitionOfUser;
  record.offset = position_;
  record.value = batch.arena.Copy(line.text);
  record.shown_offset = Offset{OrdinalOf(position_)};
  record.header = batch_header_;
  record.oversize_bytes = line.oversize_bytes;
  record.damage = batch.arena.Copy(line.damage);
  position_ = Next(position_);
}

void LogFileSource::Advance(RecordBatch& batch) {
  for (PartitionPosition& owned : owned_) {
    if (owned.next >= position_) continue;
    owned.next = position_;
    batch.positions.push_back(owned);
  }
}

Status LogFileSource::Close() {
  reader_.reset();
  for (const PartitionPosition& owned : std::exchange(owned_, {})) {
    RETURN_IF_ERROR(listener_->OnRevoked(owned.partition, false));
  }
  return {};
}

std::optional<double> LogFileSource::Progress() const {
  if (reader_ == nullptr && next_file_ == files_.size()) return 1.0;
  int64_t total = 0;
  for (const File& file : files_) total += file.size;
  const int64_t done = bytes_before_ + (reader_ == nullptr ? 0 : reader_->ConsumedBytes());
  return total == 0 ? 0.0 : static_cast<double>(done) / static_cast<double>(total);
}

}  // namespace

std::unique_ptr<EventSource> MakeLogFileSource(LogFileOptions options, const CommitLog& commit_log) {
  return std::make_unique<LogFileSource>(std::move(options), commit_log);
}

PartitionId PartitionOfUser(std::string_view user_id, int partitions) {
  return PartitionId{static_cast<int32_t>(StableHash(user_id) % static_cast<uint64_t>(partitions))};
}

PartitionId PartitionOfBadRecord(Offset offset, int partitions) {
  return PartitionId{static_cast<int32_t>(Raw(offset) % partitions)};
}

}  // namespace freshet
