// What people call the items: titles and categories from the catalogue's file (items.file), for /v1/items and the
// dashboard. Nothing is computed from them.
//
// Threads: immutable once loaded.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/result.h"

namespace freshet {

struct ItemTitle {
  std::string title, category;  // empty: it has none
};

class ItemTitles {
 public:
  // JSON Lines, an item a line (docs/schemas/item.schema.json); the last line of an item counts, and blank lines do
  // not. The error names file and line.
  static Result<ItemTitles> Load(const std::filesystem::path& path);

  // Null: the file does not have it.
  const ItemTitle* Find(const std::string& item_id) const;

  size_t size() const { return titles_.size(); }

 private:
  std::unordered_map<std::string, ItemTitle> titles_;
};

}  // namespace freshet
