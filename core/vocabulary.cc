#include "core/vocabulary.h"

#include <utility>

#include "core/hash.h"

namespace freshet {
namespace {

// Fills `rows` with hash -> row for ids 1.., refusing what would make two rows one.
template <typename HashOf, typename Map>
Status Index(std::string_view what, const std::vector<std::string>& ids, HashOf hash_of, Map& rows) {
  const auto refuse = [&](size_t row, const std::string& problem) {
    return Error(ErrorCode::kInvalidArgument, std::string(what) + " row " + std::to_string(row) + ": " + problem);
  };
  if (ids.empty() || ids[0] != kUnknownName) {
    return refuse(0, "is \"" + (ids.empty() ? std::string("absent") : ids[0]) + "\", expected \"[unknown]\"");
  }
  rows.reserve(ids.size());
  for (size_t row = 1; row < ids.size(); ++row) {
    if (ids[row].empty()) return refuse(row, "id is empty");
    const auto [found, fresh] = rows.emplace(Raw(hash_of(ids[row])), static_cast<uint32_t>(row));
    if (fresh) continue;
    const size_t other = found->second;
    const std::string both = "\"" + ids[row] + "\" and row " + std::to_string(other) + " \"" + ids[other] + "\"";
    return refuse(row,
                  ids[row] == ids[other] ? "duplicate id: " + both : "stable hashes collide: " + both + "; rename one");
  }
  return {};
}

}  // namespace

Result<Vocabulary> Vocabulary::Make(std::vector<std::string> item_ids, std::vector<std::string> type_names) {
  Vocabulary vocabulary;
  RETURN_IF_ERROR(Index("items", item_ids, HashItem, vocabulary.item_rows_));
  RETURN_IF_ERROR(Index("event types", type_names, HashType, vocabulary.type_rows_));
  vocabulary.item_ids_ = std::move(item_ids);
  vocabulary.type_names_ = std::move(type_names);
  return vocabulary;
}

ItemRow Vocabulary::RowOf(ItemHash hash) const {
  const auto found = item_rows_.find(Raw(hash));
  return found == item_rows_.end() ? kUnknownItem : ItemRow{found->second};
}

TypeRow Vocabulary::RowOf(TypeHash hash) const {
  const auto found = type_rows_.find(Raw(hash));
  return found == type_rows_.end() ? kUnknownType : TypeRow{found->second};
}

}  // namespace freshet
