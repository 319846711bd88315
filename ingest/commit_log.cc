// The commit log's file, JSON, replaced by rename:
//   {"format":"freshet commit log","version":1,
//    "inputs":[{"path":"/data/a.jsonl","size":123,"head":"0123456789abcdef"}],   index = place in the list
//    "positions":{"0":17,"5":1099511627776},                                      by partition
//    "outputs":{"/data/out.jsonl":4711}}                                          committed lengths
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "core/file.h"
#include "core/hash.h"
#include "ingest/log_files.h"

namespace freshet {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "freshet commit log";
constexpr int kVersion = 1;
constexpr size_t kHeadBytes = 64 * 1024;
constexpr auto kSyncInterval = std::chrono::seconds(1);

Error SystemError(const std::filesystem::path& path, const char* what) {
  return Error(ErrorCode::kIo, path.string() + ": " + what + ": " + std::generic_category().message(errno));
}

// How an input is known: absolute, so that another working directory does not make it another file.
std::string InputName(const std::filesystem::path& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

bool Has(std::span<const std::filesystem::path> inputs, const std::string& name) {
  return std::any_of(inputs.begin(), inputs.end(), [&](const auto& input) { return InputName(input) == name; });
}

Result<std::string> HeadHash(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(kHeadBytes, '\0');
  if (!file) return SystemError(path, "cannot open");
  file.read(head.data(), kHeadBytes);
  if (file.bad()) return SystemError(path, "cannot read");
  head.resize(static_cast<size_t>(file.gcount()));
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(StableHash(head)));
  return std::string(text);
}

}  // namespace

Result<std::unique_ptr<CommitLog>> CommitLog::Open(const std::filesystem::path& path,
                                                   std::span<const std::filesystem::path> inputs, int partitions) {
  std::unique_ptr<CommitLog> log(new CommitLog());
  log->path_ = path;
  if (!path.empty()) RETURN_IF_ERROR(log->Load());
  // A partition without a commit has read nothing: no input may be left out that it still needs.
  for (int p = 0; p < partitions; ++p) log->positions_.try_emplace(PartitionId{p}, Offset{0});
  log->ForgetUnread(inputs);
  for (const auto& [partition, next] : log->positions_) RETURN_IF_ERROR(log->CheckNamed(inputs, next));
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (InputName(inputs[i]) != InputName(inputs[j])) continue;
      return Error(ErrorCode::kInvalidArgument, inputs[i].string() + ": given twice as input");
    }
    RETURN_IF_ERROR(log->Register(inputs[i]));
  }
  RETURN_IF_ERROR(log->Write());
  return log;
}

Status CommitLog::Adopt(const std::filesystem::path& from, const std::filesystem::path& path) {
  CommitLog theirs;
  CommitLog ours;
  theirs.path_ = from;
  ours.path_ = path;
  RETURN_IF_ERROR(theirs.Load());
  RETURN_IF_ERROR(ours.Load());
  theirs.ForgetUnread({});
  const bool anew = ours.inputs_.empty() && ours.positions_.empty();
  const auto common =
      std::mismatch(theirs.inputs_.begin(), theirs.inputs_.end(), ours.inputs_.begin(), ours.inputs_.end());
  if (!anew && common.first != theirs.inputs_.end()) {
    return Error(ErrorCode::kNeedsDecision, path.string() + ": does not begin with the inputs of " + from.string() +
                                                " (" + common.first->path +
                                                "): state of both cannot be mixed; begin with another state.directory");
  }
  if (!anew) return {};
  std::erase_if(theirs.output_lengths_, [](const auto& output) {
    std::error_code absent;
    const auto size = std::filesystem::file_size(output.first, absent);
    return absent || static_cast<int64_t>(size) < output.second;
  });
  theirs.path_ = path;
  return theirs.Write();
}

Status CommitLog::Load() {
  std::error_code error;
  if (!std::filesystem::exists(path_, error) && !error) return {};
  std::ifstream file(path_, std::ios::binary);
  if (!file) return SystemError(path_, "cannot open");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  try {
    const json root = json::parse(text);
    if (root.at("format") != kFormat) throw std::runtime_error("another format");
    if (root.at("version") != kVersion) {
      throw std::runtime_error("version " + root.at("version").dump() + ", expected " + std::to_string(kVersion));
    }
    for (const json& input : root.at("inputs"))
      inputs_.push_back({input.at("path"), input.at("size"), input.at("head")});
    for (const auto& [partition, next] : root.at("positions").items()) {
      positions_[PartitionId{std::stoi(partition)}] = Offset{next.get<int64_t>()};
    }
    for (const auto& [output, length] : root.at("outputs").items()) output_lengths_[output] = length.get<int64_t>();
  } catch (const std::exception& problem) {
    const std::string_view what = problem.what();  // nlohmann's begin with "[json.exception.….101] "
    return Error(ErrorCode::kCorrupt,
                 path_.string() + ": not a commit log: " +
                     std::string(what.starts_with("[json.") ? what.substr(what.find(' ') + 1) : what));
  }
  return {};
}

Status CommitLog::Register(const std::filesystem::path& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return SystemError(path, "cannot open");
  if (!S_ISREG(status.st_mode)) {
    return Error(ErrorCode::kIo, path.string() + ": is " +
                                     (S_ISDIR(status.st_mode) ? "a directory" : "not a regular file") +
                                     ", expected a log file");
  }
  ASSIGN_OR_RETURN(std::string head, HeadHash(path));
  const std::string name = InputName(path);
  const auto known =
      std::find_if(inputs_.begin(), inputs_.end(), [&](const Input& input) { return input.path == name; });
  if (known == inputs_.end()) {
    inputs_.push_back({name, status.st_size, std::move(head)});
  } else if (known->size != status.st_size || known->head != head) {
    const std::string change = known->size != status.st_size ? std::to_string(known->size) + " bytes then, " +
                                                                   std::to_string(status.st_size) + " now"
                                                             : std::string("another beginning");
    return Error(ErrorCode::kNeedsDecision,
                 name + ": changed since it was first read (" + change +
                     "); give new events as a file of their own, or begin with another state.directory");
  }
  return {};
}

// Inputs that are not given and of which nothing was read lose their index: were they skipped, reading would count them
// as done.
void CommitLog::ForgetUnread(std::span<const std::filesystem::path> inputs) {
  Offset newest{0};
  for (const auto& [partition, next] : positions_) newest = std::max(newest, next);
  size_t first = 0;
  while (first < inputs_.size() && LogOffset(static_cast<int64_t>(first), 0) < newest) ++first;
  const auto unread = inputs_.begin() + static_cast<std::ptrdiff_t>(first);
  inputs_.erase(std::remove_if(unread, inputs_.end(), [&](const Input& input) { return !Has(inputs, input.path); }),
                inputs_.end());
}

Status CommitLog::CheckNamed(std::span<const std::filesystem::path> inputs, Offset position) const {
  for (auto index = static_cast<size_t>(FileIndexOf(position)); index < inputs_.size(); ++index) {
    if (Has(inputs, inputs_[index].path)) continue;
    return Error(ErrorCode::kNeedsDecision,
                 inputs_[index].path +
                     ": was read only in part and is not among the inputs; name it again, or begin "
                     "with another state.directory");
  }
  return {};
}

std::optional<Offset> CommitLog::Committed(PartitionId partition) const {
  const std::lock_guard lock(mutex_);
  const auto position = positions_.find(partition);
  return position == positions_.end() ? std::nullopt : std::optional(position->second);
}

Status CommitLog::CheckState(PartitionId partition, std::optional<Offset> position) const {
  const std::optional<Offset> committed = Committed(partition);
  if (!committed || !position || *position <= *committed) return {};
  return Error(ErrorCode::kNeedsDecision,
               path_.string() + ": partition " + std::to_string(Raw(partition)) + " is committed up to " +
                   std::to_string(Raw(*committed)) + ", its state is at " + std::to_string(Raw(*position)) +
                   ": what lies between would not be answered (was power lost, or the commit log replaced?). Begin "
                   "anew with another state.directory and output");
}

bool CommitLog::Begun() const {
  const std::lock_guard lock(mutex_);
  return std::any_of(positions_.begin(), positions_.end(),
                     [](const auto& position) { return Raw(position.second) > 0; });
}

int64_t CommitLog::FileIndex(const std::filesystem::path& input) const {
  const std::string name = InputName(input);
  const auto known =
      std::find_if(inputs_.begin(), inputs_.end(), [&](const Input& other) { return other.path == name; });
  assert(known != inputs_.end());
  return known - inputs_.begin();
}

std::optional<int64_t> CommitLog::OutputLength(const std::string& output) const {
  const std::lock_guard lock(mutex_);
  const auto length = output_lengths_.find(output);
  return length == output_lengths_.end() ? std::nullopt : std::optional(length->second);
}

Status CommitLog::Commit(std::span<const PartitionPosition> positions,
                         std::span<const std::pair<std::string, int64_t>> output_lengths) {
  const std::lock_guard lock(mutex_);
  // What could not be written must not come along with another worker's next commit.
  auto old_positions = positions_;
  auto old_lengths = output_lengths_;
  for (const PartitionPosition& position : positions) positions_[position.partition] = position.next;
  for (const auto& [output, length] : output_lengths) output_lengths_[output] = length;
  Status status = Write();
  if (!status.ok()) {
    positions_ = std::move(old_positions);
    output_lengths_ = std::move(old_lengths);
  }
  return status;
}

Status CommitLog::Write() {
  if (path_.empty()) return {};
  json inputs = json::array();
  for (const Input& input : inputs_)
    inputs.push_back({{"path", input.path}, {"size", input.size}, {"head", input.head}});
  json positions = json::object();
  for (const auto& [partition, next] : positions_) positions[std::to_string(Raw(partition))] = Raw(next);
  const json root = {{"format", kFormat},
                     {"version", kVersion},
                     {"inputs", std::move(inputs)},
                     {"positions", positions},
                     {"outputs", output_lengths_}};
  RETURN_IF_ERROR(ReplaceFile(path_, root.dump(-1, ' ', false, json::error_handler_t::replace)));
  // Of the two this takes longest: it makes a file that is whole anyway the newest one.
  const auto now = std::chrono::steady_clock::now();
  if (now - synced_ < kSyncInterval) return {};
  synced_ = now;
  return SyncFolder(path_.parent_path());
}

}  // namespace freshet
