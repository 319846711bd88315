#include "pipeline/generate.h"

#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "pipeline/clickstream.h"
#include "pipeline/text_file.h"

namespace freshet {
namespace {

constexpr int64_t kLatestStartMs = 4'070'908'800'000;  // 2099-01-01T00:00:00Z
constexpr char kCatalogue[] = "items.jsonl";
constexpr size_t kWriteBytes = size_t{1} << 20;
constexpr uint64_t kEventsBetweenCalls = 4096;

Status CheckCount(std::string_view flag, uint64_t count, uint64_t most) {
  if (count >= 1 && count <= most) return {};
  return Error(ErrorCode::kInvalidArgument, std::string(flag) + ": " + std::to_string(count) +
                                                ": expected a whole number from 1 to " + std::to_string(most));
}

Status Check(const GenerateOptions& options) {
  RETURN_IF_ERROR(CheckCount("--users", options.users, kMostUsers));
  RETURN_IF_ERROR(CheckCount("--items", options.items, kMostItems));
  RETURN_IF_ERROR(CheckCount("--events", options.events, kMostEvents));
  RETURN_IF_ERROR(CheckCount("--days", options.period.days, ClickPeriod::kMostDays));
  if (options.period.start_ms < 0 || options.period.start_ms > kLatestStartMs) {
    return Error(ErrorCode::kInvalidArgument, "--start: " + std::to_string(options.period.start_ms) +
                                                  " ms since 1970: expected a time from 1970 to 2099");
  }
  if (options.output.filename().empty() || options.output.filename() == kCatalogue) {
    return Error(ErrorCode::kInvalidArgument, "--output: \"" + options.output.string() +
                                                  "\": expected a file's name other than items.jsonl, which is the "
                                                  "catalogue's");
  }
  return {};
}

bool Holds(const std::filesystem::path& path, const Catalogue& catalogue) {
  std::ifstream file(path, std::ios::binary);
  std::string expected, found;
  for (uint32_t item = 0; item < catalogue.items(); ++item) {
    expected.clear();
    catalogue.AppendJson(item, expected);
    found.resize(expected.size());
    if (!file.read(found.data(), static_cast<std::streamsize>(found.size())) || found != expected) return false;
  }
  return file.peek() == std::ifstream::traits_type::eof();
}

// Refuses to replace a catalogue that is not this one, unless the log goes with it: it belongs to other events.
Status CheckCatalogueMayGo(const GenerateOptions& options, const Catalogue& catalogue) {
  const std::filesystem::path path = CataloguePath(options);
  std::error_code unreadable;
  if (!std::filesystem::exists(path, unreadable) || std::filesystem::exists(options.output, unreadable)) return {};
  if (Holds(path, catalogue)) return {};
  return Error(ErrorCode::kInvalidArgument, "--output: " + options.output.string() + ": " + path.string() +
                                                " beside it would be replaced; set another directory, or remove it");
}

// All but Close().
Status WriteCatalogue(const Catalogue& catalogue, TextFile& file) {
  std::string text;
  for (uint32_t item = 0; item < catalogue.items(); ++item) {
    catalogue.AppendJson(item, text);
    if (text.size() < kWriteBytes) continue;
    RETURN_IF_ERROR(file.Write(text));
    text.clear();
  }
  return file.Write(text);
}

}  // namespace

std::filesystem::path CataloguePath(const GenerateOptions& options) {
  return FileAt(options.output).empty() ? std::filesystem::path() : options.output.parent_path() / kCatalogue;
}

Status Generate(const GenerateOptions& options, const std::function<bool(uint64_t events)>& go_on) {
  RETURN_IF_ERROR(Check(options));
  std::error_code ignored;  // where the folder cannot be made, the file cannot either, and that error names the file
  if (options.output.has_parent_path()) std::filesystem::create_directories(options.output.parent_path(), ignored);

  const Catalogue catalogue(static_cast<uint32_t>(options.items));
  std::unique_ptr<TextFile> items;
  if (const std::filesystem::path path = CataloguePath(options); !path.empty()) {
    RETURN_IF_ERROR(CheckCatalogueMayGo(options, catalogue));
    ASSIGN_OR_RETURN(items, TextFile::Create(path));
    RETURN_IF_ERROR(WriteCatalogue(catalogue, *items));
  }
  ASSIGN_OR_RETURN(auto file, TextFile::Create(options.output));
  Clickstream clicks(catalogue, static_cast<uint32_t>(options.users), options.events, options.seed, options.period);
  std::string text;
  for (uint64_t number = 1; number <= options.events; ++number) {
    AppendJson(number, clicks.Next(), text);
    if (text.size() >= kWriteBytes) {
      RETURN_IF_ERROR(file->Write(text));
      text.clear();
    }
    if (number % kEventsBetweenCalls == 0 && !go_on(number)) {
      return Error(ErrorCode::kCancelled, options.output.string() + ": interrupted after " + std::to_string(number) +
                                              " events; nothing was kept");
    }
  }
  RETURN_IF_ERROR(file->Write(text));
  RETURN_IF_ERROR(file->Close());
  if (items) RETURN_IF_ERROR(items->Close());
  go_on(options.events);
  return {};
}

}  // namespace freshet
