#include "pipeline/item_titles.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace freshet {
namespace {

// A member that may be missing; nothing where it is no string.
std::optional<std::string> TextOf(const nlohmann::json& item, const char* name) {
  const auto member = item.find(name);
  if (member == item.end() || member->is_null()) return std::string();
  return member->is_string() ? std::optional(member->get<std::string>()) : std::nullopt;
}

}  // namespace

Result<ItemTitles> ItemTitles::Load(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path)) {
    return Error(
        ErrorCode::kInvalidArgument,
        path.string() + ": " + (file ? "expected a file of JSON Lines, not a directory" : std::strerror(errno)));
  }
  ItemTitles titles;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json item = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto id = item.is_object() ? TextOf(item, "item_id") : std::nullopt;
    auto title = item.is_object() ? TextOf(item, "title") : std::nullopt;
    auto category = item.is_object() ? TextOf(item, "category") : std::nullopt;
    if (!id || id->empty() || !title || !category) {
      return Error(ErrorCode::kInvalidArgument,
                   path.string() + ":" + std::to_string(number) +
                       ": expected an item such as {\"item_id\":\"i9\",\"title\":\"…\",\"category\":\"…\"}");
    }
    titles.titles_.insert_or_assign(*id, ItemTitle{*std::move(title), *std::move(category)});
  }
  if (file.bad()) return Error(ErrorCode::kIo, path.string() + ": " + std::strerror(errno));
  return titles;
}

const ItemTitle* ItemTitles::Find(const std::string& item_id) const {
  const auto found = titles_.find(item_id);
  return found == titles_.end() ? nullptr : &found->second;
}

}  // namespace freshet
