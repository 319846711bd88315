// Made-up users who click in real time, for trying out: the clickstream of `freshet generate`, at the present time.
#pragma once

#include <cstdint>
#include <thread>

#include "ingest/decoder.h"
#include "ingest/kafka.h"
#include "pipeline/serving_model.h"

namespace freshet {

inline constexpr uint32_t kShoppers = 500;

// Error where their clicks would lead nowhere: the model knows none of the items that they look at (i1, i2, ..), or the
// mapping does not find the fields of their events.
Status CheckShoppersFit(const Model& model, EventDecoder& decoder);

// `rate` clicks a second on average, on items i1 to i<items>, until the end of this.
class Shoppers {
 public:
  // The writer outlives it. REQUIRES: rate, items > 0.
  Shoppers(double rate, uint32_t items, EventWriter& writer);
  ~Shoppers() = default;  // joins

 private:
  std::jthread thread_;
};

}  // namespace freshet
