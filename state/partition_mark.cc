#include "state/partition_mark.h"

#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>

#include "core/file.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

constexpr char kMark[] = "PARTITION";
constexpr std::string_view kManifest = "MANIFEST-";

struct Manifest {
  uint64_t number = 0;
  uint64_t bytes = 0;
};

struct Mark {
  std::string owner;
  Manifest manifest;
};

Error Damaged(const fs::path& path, const std::string& what) {
  return Error(ErrorCode::kCorrupt, "state.directory: " + path.string() + what);
}

// Where nothing else helps.
std::string WaysOut(const fs::path& folder) {
  return "; put it back from a backup, or remove " + folder.string() + ", and the partition is built anew";
}

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Takes `prefix`, a number and `end` off the front of `text`.
std::optional<uint64_t> TakeNumber(std::string_view& text, std::string_view prefix, char end) {
  uint64_t number = 0;
  if (!text.starts_with(prefix)) return std::nullopt;
  const char* const begin = text.data() + prefix.size();
  const char* const last = text.data() + text.size();
  const auto [stop, wrong] = std::from_chars(begin, last, number);
  if (wrong != std::errc() || stop == last || *stop != end) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(stop + 1 - text.data()));
  return number;
}

Result<Mark> ParseMark(const fs::path& path) {
  const std::string text = ReadAll(path);
  const size_t line = text.find('\n');
  std::string_view rest = line == text.npos ? std::string_view() : std::string_view(text).substr(line + 1);
  const std::optional<uint64_t> number = TakeNumber(rest, kManifest, ' ');
  const std::optional<uint64_t> bytes = number ? TakeNumber(rest, "", '\n') : std::nullopt;
  if (!bytes || !rest.empty()) return Damaged(path, ": not whose partition this is" + WaysOut(path.parent_path()));
  return Mark{text.substr(0, line), {*number, *bytes}};
}

// The list that CURRENT names; absent: RocksDB has to say what is wrong with it.
std::optional<Manifest> FindManifest(const fs::path& folder) {
  const std::string current = ReadAll(folder / "CURRENT");
  std::string_view rest = current;
  const std::optional<uint64_t> number = TakeNumber(rest, kManifest, '\n');
  if (!number) return std::nullopt;
  std::error_code error;
  const auto bytes = fs::file_size(folder / current.substr(0, current.size() - 1), error);
  return error ? std::nullopt : std::optional(Manifest{*number, bytes});
}

// Whether a folder without CURRENT held users.
bool HoldsData(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& name = entry->path();
    if (name.filename() == kMark || name.extension() == ".sst" || name.extension() == ".log") return true;
  }
  return false;
}

}  // namespace

std::string OwnerOf(PartitionId partition, const std::string& application) {
  return "partition " + std::to_string(Raw(partition)) + " of application " + application;
}

Result<bool> CheckPartitionFolder(const fs::path& folder, const std::string& owner) {
  std::error_code error;
  if (!fs::exists(folder / "CURRENT", error)) {
    if (!HoldsData(folder)) return true;
    return Damaged(folder / "CURRENT", " is missing, which the state beside it needs" + WaysOut(folder));
  }
  if (!fs::exists(folder / kMark, error)) return false;
  ASSIGN_OR_RETURN(const Mark mark, ParseMark(folder / kMark));
  if (mark.owner != owner) return Damaged(folder, ": holds " + mark.owner + ", expected " + owner);
  const std::optional<Manifest> found = FindManifest(folder);
  if (!found || found->number > mark.manifest.number) return false;
  if (found->number == mark.manifest.number && found->bytes >= mark.manifest.bytes) return false;
  return Damaged(folder, ": the list of tables that CURRENT names (" + std::to_string(found->bytes) +
                             " bytes) is older than, or cut off from, the last known one, number " +
                             std::to_string(mark.manifest.number) + " of " + std::to_string(mark.manifest.bytes) +
                             " bytes" + WaysOut(folder));
}

Status MarkPartition(const fs::path& folder, const std::string& owner, const std::string& manifest, uint64_t bytes) {
  return ReplaceFile(folder / kMark, owner + "\n" + manifest + " " + std::to_string(bytes) + "\n");
}

}  // namespace freshet
