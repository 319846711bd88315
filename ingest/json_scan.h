// The text of numbers in a JSON document, which a parser gives back only as values: an id must keep its digits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace freshet {

// The text of a scalar in `json`, reached from the root through the path[0]-th child, its path[1]-th child, and so on
// (members count in their order of appearance).
// REQUIRES: `json` is a valid document, the path exists and ends at a number. Does not allocate.
std::string_view NumberText(std::string_view json, std::span<const uint32_t> path);

// Overwrites integers of 19 digits or more, which do not fit 64 bits or may not, with 0 and spaces. True where there
// was one. Any bytes are fine.
bool MaskLongIntegers(char* json, size_t size);

}  // namespace freshet
