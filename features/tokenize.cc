#include "features/tokenize.h"

#include "core/hash.h"

namespace freshet {

Token MakeToken(const Event& event) {
  return {HashItem(event.item_id), HashType(event.event_type), event.timestamp_ms};
}

int64_t WholeSeconds(int64_t time_ms) {
  const int64_t quotient = time_ms / 1000;
  return quotient - (time_ms % 1000 < 0 ? 1 : 0);
}

ModelToken ToModelToken(const Token& token, const Vocabulary& vocabulary) {
  return {vocabulary.RowOf(token.item), vocabulary.RowOf(token.type), WholeSeconds(token.time_ms)};
}

}  // namespace freshet
