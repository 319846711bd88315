// Strong ids: a row is never taken for an offset. User, item and event ids of the outside world are byte strings.
#pragma once

#include <cstdint>
#include <type_traits>

namespace freshet {

enum class PartitionId : int32_t {};
// Place of a record in its partition. Stored positions are the offset of the *next* record to consume.
enum class Offset : int64_t {};
// Row of an item / event type in a model's vocabulary. Row 0 is "unknown".
enum class ItemRow : uint32_t {};
enum class TypeRow : uint32_t {};
// Stable hashes of ids, the same in every version and model; what state keeps (see core/hash.h).
enum class ItemHash : uint64_t {};
enum class TypeHash : uint32_t {};
enum class EventIdHash : uint64_t {};
// Which weights computed something: the first 64 bits of the model's version hash. 0 is "none".
enum class ModelTag : uint64_t {};

inline constexpr ItemRow kUnknownItem{0};
inline constexpr TypeRow kUnknownType{0};
inline constexpr EventIdHash kNoEventId{0};

// The number behind a strong id.
template <typename Id>
requires std::is_enum_v<Id>
constexpr auto Raw(Id id) { return static_cast<std::underlying_type_t<Id>>(id); }

constexpr Offset Next(Offset offset) { return Offset{Raw(offset) + 1}; }

}  // namespace freshet
