// libFuzzer: no bytes, on their own or merged with others, may crash the decoder of stored users.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "state/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace freshet;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string_view first = bytes.substr(0, size == 0 ? 0 : data[0] % size);
  const std::array<std::string_view, 2> deltas = {first, bytes.substr(first.size())};
  for (const std::string& stored : {std::string(bytes), MergeDeltas(deltas, 7)}) {
    UserState user("fuzz", 7);
    if (StateCodec::Decode(stored, user).ok()) user.Append(Token{}, Next(user.applied_offset()), kUnknownItem);
  }
  if (const auto position = DecodePosition(bytes); position.ok() && EncodePosition(*position) != bytes)
    __builtin_trap();
  return 0;
}
