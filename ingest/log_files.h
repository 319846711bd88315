// Log files in, files out, with a commit log that gives them what Kafka's transactions and group offsets give topics.
//
// Input: files are read as one log, in the order of their index, which a commit log gives when it first sees a file. A
//   record's offset is (index << 40) | ordinal in the file; empty lines and header lines are no records. Files are
//   immutable: the same path with another size or beginning is kNeedsDecision.
// Partitions: a user's records belong to partition hash(user id) mod `partitions`. Worker w of n owns the partitions p
//   with p mod n = w and reads all files; its records come with kPartitionOfUser, and whoever decodes them keeps those
//   of its own partitions. So no queue is needed between workers and every user's events stay in order. (Reading and
//   decoding is a small part of an event.)
// Damage: where a compressed file is damaged or breaks off, its last record carries `damage` and reading goes on with
//   the next file.
// Output: CommitLog writes, by rename, {inputs, positions, output lengths} after the bytes are in the output. After a
//   crash the output is cut back to the committed length, and records before the committed positions change state
//   without being answered again.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "ingest/decoder.h"
#include "ingest/event_source.h"
#include "ingest/record_sink.h"

namespace freshet {

// Shared by the sources and sinks of all workers. Thread-safe.
class CommitLog {
 public:
  // Reads `path` or begins a new one; registers `inputs`, which are read by that many `partitions`. Empty path: kept in
  // memory only. kNeedsDecision where an
  // input changed since it was registered, or where one that was read in part is not among `inputs`; kInvalidArgument
  // where one is named twice; kCorrupt where `path` is not a commit log.
  static Result<std::unique_ptr<CommitLog>> Open(const std::filesystem::path& path,
                                                 std::span<const std::filesystem::path> inputs, int partitions = 0);

  // State begins from a snapshot that came with the commit log `from` (it may be absent): makes `path` go on from it.
  // Lengths of outputs that are not there any more are left out. Where `path` is a commit log already it stays as it
  // is; kNeedsDecision where the two do not mean the same by an offset.
  static Status Adopt(const std::filesystem::path& from, const std::filesystem::path& path);

  // kNeedsDecision where an input that was registered holds what comes from `position` on and is not among `inputs`.
  Status CheckNamed(std::span<const std::filesystem::path> inputs, Offset position) const;

  std::optional<Offset> Committed(PartitionId partition) const;
  // kNeedsDecision where the state's `position` is past the committed one: of what lies between nothing says that it
  // was answered.
  Status CheckState(PartitionId partition, std::optional<Offset> position) const;
  // Whether anything was committed, ever.
  bool Begun() const;
  // Index of an input given to Open().
  int64_t FileIndex(const std::filesystem::path& input) const;
  // Committed length of an output; absent: never written under this commit log.
  std::optional<int64_t> OutputLength(const std::string& output) const;
  // Replaces positions and lengths of those named, durably against a crash of the process. After a loss of power the
  // commits of the last second may be missing.
  Status Commit(std::span<const PartitionPosition> positions,
                std::span<const std::pair<std::string, int64_t>> output_lengths);

 private:
  CommitLog() = default;

  Status Load();
  Status Register(const std::filesystem::path& path);
  void ForgetUnread(std::span<const std::filesystem::path> inputs);
  Status Write();

  mutable std::mutex mutex_;
  std::filesystem::path path_;
  struct Input {
    std::string path;
    int64_t size;
    std::string head;  // hash of the first 64 KiB, hexadecimal

    bool operator==(const Input&) const = default;
  };
  std::vector<Input> inputs_;
  std::map<PartitionId, Offset> positions_;
  std::map<std::string, int64_t> output_lengths_;
  std::chrono::steady_clock::time_point synced_;  // the folder
};

// An offset of log files: file index and ordinal of the record in it.
inline constexpr int kOrdinalBits = 40;
constexpr Offset LogOffset(int64_t file_index, int64_t ordinal) {
  return Offset{(file_index << kOrdinalBits) | ordinal};
}
constexpr int64_t FileIndexOf(Offset offset) { return Raw(offset) >> kOrdinalBits; }
constexpr int64_t OrdinalOf(Offset offset) { return Raw(offset) & ((int64_t{1} << kOrdinalBits) - 1); }

struct LogFileOptions {
  std::vector<std::filesystem::path>
      paths;                // .jsonl, .csv, .tsv, plain or with .gz or .zst (told by content, not by name)
  bool has_header = false;  // the first line of each file is a header, see HasHeaderLine() in ingest/decoder.h
  // Looks at each file's header line when the source opens, e.g. EventDecoder::CheckHeader(); its error names the file.
  std::function<Status(std::string_view header)> check_header;
  int partitions = 8;
  int worker = 0;
  int workers = 1;
  size_t keep_record_bytes = 16 << 20;  // of a longer line only this much is kept; the rest is skipped
};

// Open() fails where a path cannot be read. Reading begins at the smallest position of the worker's partitions; records
// before another partition's position come again, and the caller drops them. `commit_log` outlives the source.
std::unique_ptr<EventSource> MakeLogFileSource(LogFileOptions options, const CommitLog& commit_log);

// The partition of a log file's record: of its user, or, where it has none (a bad record), of its offset.
PartitionId PartitionOfUser(std::string_view user_id, int partitions);
PartitionId PartitionOfBadRecord(Offset offset, int partitions);

// A file that several workers append to: plain, gzip (.gz) or zstd (.zst) by its name; a compressed one gets a frame
// per commit. `path` empty: nowhere. "-" (standard output), a pipe or a device is never cut back.
// Opening cuts the file back to its committed length, or, where nothing was committed yet, empties it; kNeedsDecision
// where it is shorter than that, or holds what a commit log that went further does not know. A failed write cuts it
// back too, so that a restart goes on exactly. `anew`: emptied whatever was committed, for an output that is written
// whole by every run. A pipe is waited for until somebody reads it, while `keep_waiting` says so (kCancelled then).
class OutputFile;
Result<std::shared_ptr<OutputFile>> OpenOutputFile(const std::string& path, CommitLog& commit_log, bool anew = false,
                                                   const std::function<bool()>& keep_waiting = {});

// Recommendations go to `recommendations`, dead letters (as JSON lines) to `dead_letters`, which are two files; one
// sink for each worker, the files shared. What is published waits in the sink's memory for Commit(). After an error of
// Commit() the sink is broken and the program has to be started again.
std::unique_ptr<RecordSink> MakeFileSink(std::shared_ptr<OutputFile> recommendations,
                                         std::shared_ptr<OutputFile> dead_letters, CommitLog& commit_log);

}  // namespace freshet
