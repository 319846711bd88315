#include "inference/model.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <system_error>
#include <utility>

#include "inference/model_config.h"
#include "inference/model_files.h"
#include "inference/safetensors.h"

namespace freshet {
namespace {

Result<std::string> ReadFile(const std::filesystem::path& directory, std::string_view name) {
  const std::filesystem::path path = directory / name;
  if (const Status is_file = CheckIsFile(path); !is_file.ok()) return is_file.error().At(name);
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  std::ifstream stream(path, std::ios::binary);
  std::string text(failure ? 0 : size, '\0');
  if (stream) stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (failure || !stream) {
    return Error(ErrorCode::kIo, std::string(name) + ": cannot be read: " + std::strerror(errno));
  }
  return text;
}

// Bytes of the UTF-8 character that `text` begins with; 0 where it begins with none.
size_t Utf8CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto trails = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  if (byte(0) < 0x80) return 1;
  if (byte(0) >= 0xC2 && byte(0) < 0xE0) return trails(1) ? 2 : 0;
  if (byte(0) >= 0xE0 && byte(0) < 0xF0) {
    const bool overlong = byte(0) == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = byte(0) == 0xED && byte(1) >= 0xA0;
    return trails(1) && trails(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (byte(0) >= 0xF0 && byte(0) < 0xF5) {
    const bool overlong = byte(0) == 0xF0 && byte(1) < 0x90;
    const bool beyond = byte(0) == 0xF4 && byte(1) >= 0x90;
    return trails(1) && trails(2) && trails(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = Utf8CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

// The ids of a `row<TAB>id` file, by row.
Result<std::vector<std::string>> ParseRows(std::string_view name, std::string_view text, int expected) {
  std::vector<std::string> ids;
  const auto refuse = [&](const std::string& problem) {
    return Error(ErrorCode::kCorrupt, std::string(name) + ": line " + std::to_string(ids.size() + 1) + ": " + problem);
  };
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == text.npos) return refuse("no line feed at its end (truncated?)");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::string row = std::to_string(ids.size());
    const size_t tab = line.find('\t');
    if (tab == line.npos) return refuse("no tab, expected row<TAB>id");
    if (line.substr(0, tab) != row) return refuse("row \"" + std::string(line.substr(0, tab)) + "\", expected " + row);
    const std::string_view id = line.substr(tab + 1);
    if (id.find('\t') != id.npos) return refuse("a second tab, expected row<TAB>id");
    if (id.ends_with('\r')) return refuse("ends with CR LF, expected LF");
    if (!IsUtf8(id)) return refuse("not UTF-8");
    ids.emplace_back(id);
  }
  if (ids.size() == static_cast<size_t>(expected)) return ids;
  return Error(ErrorCode::kInvalidArgument, std::string(name) + ": " + std::to_string(ids.size()) + " rows, expected " +
                                                std::to_string(expected) + " by config.json");
}

// "models/demo/" and "models/demo" are both "demo"; "." is what it stands for.
std::string DirectoryName(const std::filesystem::path& directory) {
  std::error_code failure;
  std::filesystem::path path = std::filesystem::weakly_canonical(directory, failure);
  if (failure) path = directory;
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

Result<std::unique_ptr<const Model>> Load(const std::filesystem::path& directory) {
  std::error_code failure;
  if (!std::filesystem::is_directory(directory, failure)) {
    return Error(ErrorCode::kInvalidArgument, "no such directory");
  }
  VersionHash hash;
  const auto read = [&](std::string_view name) {
    Result<std::string> text = ReadFile(directory, name);
    if (text.ok()) {
      hash.BeginFile(name, text->size());
      hash.Add(*text);
    }
    return text;
  };
  ASSIGN_OR_RETURN(const std::string config_text, read(kConfigFile));
  Result<ModelConfig> config = ParseModelConfig(config_text);
  if (!config.ok()) return config.error().At(kConfigFile);
  ASSIGN_OR_RETURN(const std::string types_text, read(kTypesFile));
  ASSIGN_OR_RETURN(std::vector<std::string> types, ParseRows(kTypesFile, types_text, config->event_types));
  ASSIGN_OR_RETURN(const std::string items_text, read(kItemsFile));
  ASSIGN_OR_RETURN(std::vector<std::string> items, ParseRows(kItemsFile, items_text, config->items));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(std::move(items), std::move(types)));
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(directory / kWeightsFile));
  RETURN_IF_ERROR(CheckTensors(*config, file));
  RETURN_IF_ERROR(CheckDigests(file, FileDigests(config_text, types_text, items_text)));

  std::unique_ptr<Model> model = NewModel(DirectoryName(directory), *config, std::move(vocabulary));
  RETURN_IF_ERROR(ReadWeights(file, *model, hash));
  hash.Finish(*model);
  return std::unique_ptr<const Model>(std::move(model));
}

}  // namespace

Result<std::unique_ptr<const Model>> LoadModel(const std::filesystem::path& directory) {
  Result<std::unique_ptr<const Model>> model = Load(directory);
  if (!model.ok()) return model.error().At(directory.string());
  return model;
}

}  // namespace freshet
