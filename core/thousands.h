#pragma once

#include <cstdint>
#include <string>

namespace freshet {

// "1,234,567"
inline std::string WithThousands(int64_t number) {
  std::string digits = std::to_string(number);
  const int first = number < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > first; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

}  // namespace freshet
