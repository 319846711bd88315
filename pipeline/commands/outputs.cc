#include "pipeline/commands/outputs.h"

#include <set>
#include <system_error>

#include "inference/model_files.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

Error Refused(const std::string& flag, const fs::path& output, const std::string& why) {
  return Error(ErrorCode::kInvalidArgument, flag + ": " + output.string() + ": " + why);
}

Status CheckIsNotRead(const std::string& flag, const fs::path& output, std::span<const FileRead> read) {
  std::error_code absent;
  if (!fs::is_regular_file(output, absent)) return {};  // a terminal may well be both ends
  for (const FileRead& file : read) {
    if (!fs::equivalent(file.path, output, absent)) continue;
    return Refused(flag, output, "is " + file.what + " " + file.path.string() + ", expected a file that is not read");
  }
  return {};
}

// What is there and takes no text; nullptr: it does, or nothing is there.
const char* KindRefused(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "is a directory, expected a file";
    case fs::file_type::block:
      return "is a disk, expected a file";
    case fs::file_type::socket:
      return "is a socket, expected a file";
    default:
      return nullptr;
  }
}

}  // namespace

std::vector<FileRead> FilesRead(const ConfigFlags& flags, std::span<const std::string> inputs,
                                std::span<const std::string> models) {
  std::vector<FileRead> read;
  if (!flags.file.empty()) read.push_back({"the configuration", flags.file});
  for (const std::string& input : inputs) read.push_back({"the input", input});
  for (const std::string& model : models) {
    if (model.empty()) continue;
    for (const std::string_view name : kModelFiles) read.push_back({"the model's", fs::path(model) / name});
  }
  return read;
}

void AddFilesOf(const fs::path& directory, const std::string& what, std::vector<FileRead>& read) {
  std::error_code unreadable;  // which whoever reads it will say
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, unreadable)) {
    read.push_back({what, entry.path()});
  }
}

Status CheckOutputFile(const std::string& flag, const fs::path& output, std::span<const FileRead> read) {
  std::error_code absent;
  if (const char* const why = KindRefused(fs::status(output, absent).type())) return Refused(flag, output, why);
  return CheckIsNotRead(flag, output, read);
}

Status CheckOutputIsNoState(const std::string& flag, const fs::path& output, const fs::path& state) {
  std::error_code unreadable;
  const auto real = [&](const fs::path& path) {
    return fs::weakly_canonical(fs::absolute(path, unreadable), unreadable);
  };
  const fs::path within = real(output).lexically_relative(real(state));
  const std::string name = within.empty() ? "" : within.begin()->string();
  static const std::set<std::string> kOwn = {"FORMAT",   "FORMAT.new",       "LOCK",
                                             kCommitLog, "commits.json.new", "dead-letters.jsonl"};
  if (!kOwn.contains(name) && !name.starts_with("partition-") && !name.starts_with("removed-")) return {};
  return Refused(flag, output, "belongs to the state in " + state.string() + ", expected another file");
}

Status CheckOutputDirectory(const std::string& flag, const fs::path& directory, std::span<const std::string_view> names,
                            std::span<const FileRead> read) {
  fs::path present, missing;
  for (const std::string_view name : names) {
    const fs::path file = directory / name;
    RETURN_IF_ERROR(CheckIsNotRead(flag, file, read));
    std::error_code unreadable;  // which the first write will say
    const fs::file_type type = fs::status(file, unreadable).type();
    const bool there = fs::exists(fs::symlink_status(file, unreadable));
    (there ? present : missing) = file;
    if (there && type != fs::file_type::regular) return Refused(flag, file, "is there and is no regular file");
  }
  if (present.empty() || missing.empty()) return {};
  return Refused(flag, directory,
                 "holds something else: " + present.string() + " is there and " + missing.string() +
                     " is not, expected a new directory, or one that this command wrote");
}

}  // namespace freshet
