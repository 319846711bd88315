// A worker's transactional ends, of which the source has its partitions: what its sink needs to commit.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <utility>

#include "ingest/kafka.h"
#include "tests/ingest/kafka/store_listener.h"

namespace freshet {

class JoinedEnds {
 public:
  explicit JoinedEnds(const KafkaOptions& options) {
    auto ends = MakeTransactionalKafkaEnds(options);
    if (!ends.ok()) throw std::runtime_error(ends.error().message());
    ends_ = std::move(ends).value();
    EXPECT_TRUE(ends_.source->Open(listener_).ok());
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (listener_.current.empty() && std::chrono::steady_clock::now() < until) {
      RecordBatch batch;
      EXPECT_TRUE(ends_.source->Poll(batch, 1, std::chrono::milliseconds(100)).ok());
    }
    EXPECT_FALSE(listener_.current.empty()) << "no partition was assigned";
  }

  RecordSink& sink() { return *ends_.sink; }

 private:
  StoreListener listener_;
  KafkaEnds ends_;
};

}  // namespace freshet
