// The ids that a model knows, by row, and the way from a stable hash to a row.
//
// Immutable after Make(); any number of threads may read. Row 0 is "[unknown]" and is what every unknown hash maps to.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/ids.h"
#include "core/result.h"

namespace freshet {

inline constexpr std::string_view kUnknownName = "[unknown]";

class Vocabulary {
 public:
  // `item_ids` and `type_names` by row. Error where row 0 is not "[unknown]", an id is empty or repeated, or two ids
  // collide in their stable hash; the message names both rows.
  static Result<Vocabulary> Make(std::vector<std::string> item_ids, std::vector<std::string> type_names);

  ItemRow RowOf(ItemHash hash) const;
  TypeRow RowOf(TypeHash hash) const;

  const std::vector<std::string>& item_ids() const { return item_ids_; }
  const std::vector<std::string>& type_names() const { return type_names_; }

 private:
  Vocabulary() = default;

  std::vector<std::string> item_ids_;
  std::vector<std::string> type_names_;
  std::unordered_map<uint64_t, uint32_t> item_rows_;
  std::unordered_map<uint32_t, uint32_t> type_rows_;
};

}  // namespace freshet
