#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <system_error>

#include "core/file.h"
#include "state/rocksdb_store.h"
#include "state/store.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormatLine = "freshet-state 2";
constexpr std::string_view kFormatFamily = "freshet-state ";
constexpr std::string_view kApplicationKey = "application";
constexpr std::string_view kHistoryKey = "history";
constexpr std::string_view kPartitionPrefix = "partition-";
constexpr std::string_view kRemovedPrefix = "removed-";
constexpr char kLostMark[] = "LOST";  // in a partition's folder

Error IoError(const fs::path& path, std::string_view doing, int error) {
  return Error(ErrorCode::kIo,
               "state.directory: " + path.string() + ": " + std::string(doing) + ": " + std::strerror(error));
}

class File {
 public:
  File(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

  // False with errno.
  bool Write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) return false;
      if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
    }
    return true;
  }
  bool Read(std::string& bytes) const {
    char block[4096];
    for (;;) {
      const ssize_t count = ::read(fd_, block, sizeof(block));
      if (count == 0) return true;
      if (count > 0) bytes.append(block, static_cast<size_t>(count));
      if (count < 0 && errno != EINTR) return false;
    }
  }

 private:
  const int fd_;
};

// Replaces a file; the new content is there even after a loss of power.
Status Replace(const fs::path& path, std::string_view content) {
  const Status replaced = ReplaceFile(path, content);
  if (!replaced.ok()) return replaced.error().At("state.directory");
  const Status synced = SyncFolder(path.parent_path());
  return synced.ok() ? Status() : synced.error().At("state.directory");
}

// The directory held by this process, through flock() on LOCK, which holds a writer's process id.
class DirectoryLock {
 public:
  static Result<std::unique_ptr<DirectoryLock>> Take(const fs::path& directory, bool read_only) {
    const fs::path path = directory / "LOCK";
    auto lock = std::unique_ptr<DirectoryLock>(new DirectoryLock(path, read_only));
    if (!lock->file_.open()) {
      if (read_only && errno == ENOENT) return lock;  // nobody ever wrote here
      return IoError(path, "cannot open", errno);
    }
    if (::flock(lock->file_.fd(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      return errno == EWOULDBLOCK ? lock->InUse(directory) : IoError(path, "cannot lock", errno);
    }
    lock->writes_ = !read_only;
    if (read_only) return lock;
    if (::ftruncate(lock->file_.fd(), 0) != 0 || !lock->file_.Write(std::to_string(::getpid()) + "\n")) {
      return IoError(path, "cannot write", errno);
    }
    return lock;
  }

  ~DirectoryLock() {
    // No id is better than a stale one; a failure here harms nobody.
    if (writes_ && ::ftruncate(file_.fd(), 0) != 0) return;
  }

 private:
  DirectoryLock(const fs::path& path, bool read_only) : file_(path, read_only ? O_RDONLY : O_RDWR | O_CREAT) {}

  Error InUse(const fs::path& directory) const {
    std::string holder;
    int pid = 0;
    const bool known = file_.Read(holder) &&
                       std::from_chars(holder.data(), holder.data() + holder.size(), pid).ec == std::errc() && pid > 0;
    return Error(ErrorCode::kIo, "state.directory: " + directory.string() + ": in use by " +
                                     (known ? "process " + std::to_string(pid) : "another process, which reads it"));
  }

  const File file_;
  bool writes_ = false;
};

// The entries of a directory whose names begin with `prefix`.
Result<std::vector<std::string>> NamesIn(const fs::path& directory, std::string_view prefix) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (name.starts_with(prefix)) names.push_back(std::move(name));
  }
  if (error) return IoError(directory, "cannot list", error.value());
  return names;
}

// What FORMAT says: its first line, then "key: value" lines.
struct Format {
  std::string application;
  std::map<std::string, std::string, std::less<>> facts;

  std::string Text() const {
    std::string text = std::string(kFormatLine) + "\n" + std::string(kApplicationKey) + ": " + application + "\n";
    for (const auto& [key, value] : facts) text += key + ": " + value + "\n";
    return text;
  }
};

Result<Format> ParseFormat(const fs::path& path, std::string_view text) {
  const auto corrupt = [&](int line, std::string_view found, const std::string& expected) {
    return Error(ErrorCode::kCorrupt, "state.directory: " + path.string() + ": line " + std::to_string(line) + ": \"" +
                                          std::string(found.substr(0, 80)) + "\": expected " + expected);
  };
  Format format;
  std::map<std::string, std::string, std::less<>>& facts = format.facts;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (end == std::string_view::npos) return corrupt(number, line, "a whole line");
    text.remove_prefix(end + 1);
    if (number == 1) {
      if (line == kFormatLine) continue;
      if (!line.starts_with(kFormatFamily)) return corrupt(1, line, "\"" + std::string(kFormatLine) + "\"");
      return Error(ErrorCode::kInvalidArgument, "state.directory: " + path.string() + ": found format \"" +
                                                    std::string(line.substr(0, 80)) + "\", this version reads \"" +
                                                    std::string(kFormatLine) + "\"");
    }
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos || colon == 0) return corrupt(number, line, "\"key: value\"");
    if (!facts.emplace(line.substr(0, colon), line.substr(colon + 2)).second) {
      return corrupt(number, line, "each key once");
    }
  }
  const auto application = facts.find(kApplicationKey);
  if (application == facts.end()) return corrupt(2, "", "\"application: ...\"");
  format.application = application->second;
  facts.erase(application);
  return format;
}

// What stores need after the directory object is gone: the lock, and which partitions are open.
struct Holdings {
  std::unique_ptr<DirectoryLock> lock;
  std::mutex mutex;
  std::set<PartitionId> open;
};

class StateDirectoryImpl final : public StateDirectory {
 public:
  StateDirectoryImpl(StateOptions options, Format format, std::shared_ptr<Holdings> holdings,
                     std::shared_ptr<const RocksDbResources> resources)
      : options_(std::move(options)),
        format_(std::move(format)),
        holdings_(std::move(holdings)),
        resources_(std::move(resources)) {}

  Result<std::unique_ptr<UserStateStore>> OpenPartition(PartitionId partition) override {
    const fs::path path = PathOf(partition);
    std::error_code error;
    if (options_.read_only && !fs::exists(path, error)) return IoError(path, "cannot open", ENOENT);
    {
      const std::lock_guard guard(holdings_->mutex);
      if (!holdings_->open.insert(partition).second) return AlreadyOpen(path);
    }
    std::shared_ptr<void> hold(nullptr, [holdings = holdings_, partition](void*) {
      const std::lock_guard guard(holdings->mutex);
      holdings->open.erase(partition);
    });
    if (!options_.read_only && fs::remove(path / kLostMark, error); error) {
      return IoError(path / kLostMark, "cannot remove", error.value());
    }
    return OpenRocksDbStore(path, partition, resources_, std::move(hold));
  }

  Result<std::vector<PartitionId>> Partitions() const override {
    std::vector<PartitionId> partitions;
    ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(options_.directory, kPartitionPrefix));
    for (const std::string& name : names) {
      int32_t id = 0;
      const char* const last = name.data() + name.size();
      const auto [parsed, wrong] = std::from_chars(name.data() + kPartitionPrefix.size(), last, id);
      if (wrong == std::errc() && parsed == last) partitions.push_back(PartitionId{id});
    }
    std::sort(partitions.begin(), partitions.end());
    return partitions;
  }

  Status RemovePartition(PartitionId partition) override {
    fs::path removed;
    {
      const std::lock_guard guard(holdings_->mutex);
      if (options_.read_only) return ReadOnly();
      if (holdings_->open.contains(partition)) return AlreadyOpen(PathOf(partition));
      ASSIGN_OR_RETURN(removed, PutAside(partition));
    }
    return Delete(removed);
  }

  Result<std::optional<PartitionId>> RemoveLostPartition(std::chrono::milliseconds kept) override {
    std::optional<PartitionId> due;
    fs::path removed;
    {
      const std::lock_guard guard(holdings_->mutex);  // whoever opens the partition meanwhile waits, and finds none
      if (options_.read_only) return ReadOnly();
      ASSIGN_OR_RETURN(due, LostFor(kept));
      if (!due) return due;
      ASSIGN_OR_RETURN(removed, PutAside(*due));
    }
    RETURN_IF_ERROR(Delete(removed));
    return due;
  }

  std::optional<std::string> Fact(std::string_view key) const override {
    const std::lock_guard guard(holdings_->mutex);
    const auto found = format_.facts.find(key);
    return found == format_.facts.end() ? std::nullopt : std::optional(found->second);
  }

  Status SetFact(std::string_view key, std::string_view value) override {
    const std::lock_guard guard(holdings_->mutex);
    const std::string name = "state.directory: " + options_.directory.string() + ": " + std::string(key);
    if (key.empty() || key.find_first_of(":\n") != key.npos || value.find('\n') != value.npos) {
      return Error(ErrorCode::kInvalidArgument, name + ": not a fact that FORMAT can hold");
    }
    const auto found = format_.facts.find(key);
    if (found != format_.facts.end()) {
      if (found->second == value) return {};
      return Error(ErrorCode::kInvalidArgument,
                   name + " is " + found->second + " there and cannot become " + std::string(value));
    }
    if (options_.read_only) return ReadOnly();
    Format changed = format_;
    changed.facts.emplace(key, value);
    RETURN_IF_ERROR(Replace(options_.directory / "FORMAT", changed.Text()));
    format_ = std::move(changed);
    return {};
  }

 private:
  // Marks partitions that are not open, and finds one that has been marked for `kept`. REQUIRES: the mutex.
  Result<std::optional<PartitionId>> LostFor(std::chrono::milliseconds kept) const {
    ASSIGN_OR_RETURN(const std::vector<PartitionId> partitions, Partitions());
    const auto now = fs::file_time_type::clock::now();
    for (const PartitionId partition : partitions) {
      if (holdings_->open.contains(partition)) continue;
      const fs::path mark = PathOf(partition) / kLostMark;
      std::error_code error;
      const auto since = fs::last_write_time(mark, error);
      if (error == std::errc::no_such_file_or_directory) {
        if (!File(mark, O_WRONLY | O_CREAT).open()) return IoError(mark, "cannot write", errno);
      } else if (error) {
        return IoError(mark, "cannot read", error.value());
      } else if (now - since >= kept) {
        return std::optional(partition);
      }
    }
    return std::optional<PartitionId>();
  }

  // Gives a partition's folder a name under which it is no partition: half of one is never taken for one, and deleting
  // it needs no lock. REQUIRES: the mutex, and the partition not open.
  Result<fs::path> PutAside(PartitionId partition) {
    const fs::path path = PathOf(partition);
    const std::string name = std::string(kRemovedPrefix) + std::to_string(Raw(partition));
    fs::path removed = options_.directory / name;
    std::error_code error;
    // An earlier one may still be on its way out.
    for (int i = 2; fs::exists(removed, error); ++i) removed = options_.directory / (name + "-" + std::to_string(i));
    if (!error && fs::exists(path, error)) fs::rename(path, removed, error);
    if (error) return IoError(path, "cannot remove", error.value());
    return removed;
  }

  static Status Delete(const fs::path& removed) {
    std::error_code error;
    fs::remove_all(removed, error);
    return error ? Status(IoError(removed, "cannot remove", error.value())) : Status();
  }

  fs::path PathOf(PartitionId partition) const {
    return options_.directory / (std::string(kPartitionPrefix) + std::to_string(Raw(partition)));
  }
  Error AlreadyOpen(const fs::path& path) const {
    return Error(ErrorCode::kUnavailable, path.string() + ": the partition is open already");
  }
  Error ReadOnly() const {
    return Error(ErrorCode::kInvalidArgument,
                 "state.directory: " + options_.directory.string() + ": opened for reading only");
  }

  const StateOptions options_;
  Format format_;
  const std::shared_ptr<Holdings> holdings_;
  const std::shared_ptr<const RocksDbResources> resources_;
};

// Reads FORMAT, or makes it where the directory is new.
Result<Format> OpenFormat(const StateOptions& options) {
  const fs::path path = options.directory / "FORMAT";
  const File file(path, O_RDONLY);
  if (file.open()) {
    std::string text;
    if (!file.Read(text)) return IoError(path, "cannot read", errno);
    return ParseFormat(path, text);
  }
  if (errno != ENOENT) return IoError(path, "cannot open", errno);
  if (options.read_only) return Error(ErrorCode::kIo, "state.directory: " + path.string() + ": no such file");
  ASSIGN_OR_RETURN(const std::vector<std::string> partitions, NamesIn(options.directory, kPartitionPrefix));
  if (!partitions.empty()) {
    return Error(ErrorCode::kCorrupt,
                 "state.directory: " + path.string() + " is missing, but " + partitions.front() + " is there");
  }
  Format format{.application = options.application,
                .facts = {{std::string(kHistoryKey), std::to_string(options.history)}}};
  RETURN_IF_ERROR(Replace(path, format.Text()));
  return format;
}

// How many tokens are kept per user from now on: what FORMAT says, or what is wanted, which FORMAT then says.
Result<size_t> SettleHistory(const StateOptions& options, Format& format) {
  const fs::path path = options.directory / "FORMAT";
  std::string& fact = format.facts[std::string(kHistoryKey)];
  size_t kept = 0;
  const auto [end, wrong] = std::from_chars(fact.data(), fact.data() + fact.size(), kept);
  if (wrong != std::errc() || end != fact.data() + fact.size() || kept == 0) {
    return Error(ErrorCode::kCorrupt, "state.directory: " + path.string() + ": history: \"" + fact.substr(0, 80) +
                                          "\": expected how many tokens are kept per user");
  }
  if (options.read_only) return kept;
  const size_t history = options.shorten_history ? options.history : std::max(kept, options.history);
  if (history == kept) return kept;
  fact = std::to_string(history);
  RETURN_IF_ERROR(Replace(path, format.Text()));
  return history;
}

// What RemovePartition() left when it was interrupted.
Status RemoveLeftovers(const fs::path& directory) {
  ASSIGN_OR_RETURN(const std::vector<std::string> leftovers, NamesIn(directory, kRemovedPrefix));
  std::error_code error;  // what stays harms nobody
  for (const std::string& name : leftovers) fs::remove_all(directory / name, error);
  return {};
}

}  // namespace

Result<std::unique_ptr<StateDirectory>> StateDirectory::Open(const StateOptions& options) {
  if (options.application.find('\n') != std::string::npos) {
    return Error(ErrorCode::kInvalidArgument, "application: expected one line");
  }
  if (!options.read_only) {
    std::error_code error;
    fs::create_directories(options.directory, error);
    if (error) return IoError(options.directory, "cannot create", error.value());
  }
  auto holdings = std::make_shared<Holdings>();
  ASSIGN_OR_RETURN(holdings->lock, DirectoryLock::Take(options.directory, options.read_only));
  // Its owner may open LOCK all the same, and would find out with the first partition.
  if (!options.read_only && ::access(options.directory.c_str(), W_OK) != 0) {
    return IoError(options.directory, "cannot write", errno);
  }
  ASSIGN_OR_RETURN(Format format, OpenFormat(options));
  if (format.application != options.application) {
    return Error(ErrorCode::kInvalidArgument, "state.directory: " + options.directory.string() +
                                                  ": holds the state of application \"" + format.application +
                                                  "\", expected \"" + options.application + "\"");
  }
  StateOptions settled = options;
  ASSIGN_OR_RETURN(settled.history, SettleHistory(options, format));
  ASSIGN_OR_RETURN(std::shared_ptr<const RocksDbResources> resources, MakeRocksDbResources(settled));
  if (!options.read_only) RETURN_IF_ERROR(RemoveLeftovers(options.directory));
  return std::unique_ptr<StateDirectory>(std::make_unique<StateDirectoryImpl>(
      std::move(settled), std::move(format), std::move(holdings), std::move(resources)));
}

}  // namespace freshet
