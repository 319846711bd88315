// Where a command may write: never to what it reads, nor to what it does not know for its own.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "pipeline/setup.h"

namespace freshet {

// A file that a command reads, and how an error names it: "the input".
struct FileRead {
  std::string what;
  std::filesystem::path path;
};

// The configuration file, log files, and the files of model directories; empty names are left out.
std::vector<FileRead> FilesRead(const ConfigFlags& flags, std::span<const std::string> inputs,
                                std::span<const std::string> models);
// Every file in `directory`, as those that restore a snapshot.
void AddFilesOf(const std::filesystem::path& directory, const std::string& what, std::vector<FileRead>& read);

// Refuses `output` (named `flag`) where it is a file that is read, by whatever name, or is there and no place for a
// stream of text: a directory, a disk, a socket. Pipes, terminals and the like are.
Status CheckOutputFile(const std::string& flag, const std::filesystem::path& output, std::span<const FileRead> read);

// Refuses files of the state in `state` that freshet itself writes: an output there would destroy them.
Status CheckOutputIsNoState(const std::string& flag, const std::filesystem::path& output,
                            const std::filesystem::path& state);

// Refuses a directory where files of these names are something else's: some of them are there and others are not, or
// one is read, or is no regular file.
Status CheckOutputDirectory(const std::string& flag, const std::filesystem::path& directory,
                            std::span<const std::string_view> names, std::span<const FileRead> read);

}  // namespace freshet
