// The trace of an event goes on to the recommendation that it causes.
#include <gmock/gmock.h>

#include "tests/pipeline/pipeline_test_support.h"

namespace freshet {
namespace {

const std::string kState = "congo=t61rcWkgMzE";

std::string Parent(Offset offset) {
  const std::string id = std::to_string(1000 + Raw(offset));
  return "00-4bf92f3577b34da6a3ce929d0e0e" + id + "-00f067aa0ba902b7-01";
}

// Two in three events have a trace, and one of these a state besides.
class TracedSource : public MemorySource {
 public:
  using MemorySource::MemorySource;
  Result<PollState> Poll(RecordBatch& batch, size_t max_records, std::chrono::milliseconds wait) override {
    ASSIGN_OR_RETURN(const PollState state, MemorySource::Poll(batch, max_records, wait));
    for (RawRecord& record : batch.records) {
      if (Raw(record.offset) % 3 == 0) continue;
      record.trace.traceparent = batch.arena.Copy(Parent(record.offset));
      if (Raw(record.offset) % 3 == 2) record.trace.tracestate = kState;
    }
    return state;
  }
};

class TraceTest : public PipelineTest {
 protected:
  // Each answer has the trace of the event that it names as its source.
  void ExpectTraces(Emit emit, size_t max_batch) {
    MemoryTopic topic = RandomTopic(300, TestSeed());
    MemorySink sink;
    PipelineOptions options;
    options.emit = emit;
    options.max_batch = max_batch;
    Processor processor(temporary_.path() / std::to_string(max_batch), serving_, std::make_unique<TracedSource>(topic),
                        sink, options);
    processor.Run();
    size_t traced = 0;
    for (const auto& record : sink.committed()) {
      const Offset offset{json::parse(record.value)["source"]["offset"].get<int64_t>()};
      std::vector<std::pair<std::string, std::string>> expected;
      if (Raw(offset) % 3 != 0) expected.emplace_back("traceparent", Parent(offset));
      if (Raw(offset) % 3 == 2) expected.emplace_back("tracestate", kState);
      EXPECT_EQ(record.headers, expected);
      traced += !expected.empty();
    }
    EXPECT_GT(traced, sink.committed().size() / 3);
  }
};

TEST_F(TraceTest, EachAnswerHasItsEvents) { ExpectTraces(Emit::kEvery, 7); }

TEST_F(TraceTest, OneAnswerToSeveralHasTheNewestEvents) { ExpectTraces(Emit::kLatest, 64); }

}  // namespace
}  // namespace freshet
