// What every RecordSink keeps (ingest/record_sink.h). A kind of sink runs the suite by a factory:
//   INSTANTIATE_TEST_SUITE_P(Files, SinkContract, testing::Values(SinkKind{"files", [] { return ...; }}));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ingest/record_sink.h"

namespace freshet {

// What a reader of the output sees.
struct SeenOutput {
  Stream stream;
  std::string key;
  std::string value;
  std::map<std::string, std::string> headers;

  bool operator==(const SeenOutput&) const = default;
};

class SinkFixture {
 public:
  virtual ~SinkFixture() = default;

  virtual std::unique_ptr<RecordSink> Make() = 0;
  // What readers see now, in the order of each stream, recommendations first.
  virtual std::vector<SeenOutput> Read() = 0;
  // The committed position of a partition where the sink keeps it; else nothing.
  virtual std::optional<Offset> Committed(PartitionId) { return std::nullopt; }
  virtual bool keeps_positions() const { return false; }
  // Whether recommendations show their key (in files it is only in the value).
  virtual bool shows_keys() const { return true; }
  // Whether what was published is hidden until Commit(), and gone after Abort(). Not so for Kafka without transactions.
  virtual bool hides_until_commit() const { return true; }
};

struct SinkKind {
  std::string name;
  std::function<std::unique_ptr<SinkFixture>()> make;
};

inline void PrintTo(const SinkKind& kind, std::ostream* out) { *out << kind.name; }

class SinkContract : public testing::TestWithParam<SinkKind> {
 protected:
  void SetUp() override { fixture_ = GetParam().make(); }

  static OutputRecord Answer(std::string_view key, std::string_view value) {
    return {Stream::kRecommendations, key, value, {}};
  }
  SeenOutput SeenAnswer(const std::string& key, const std::string& value) const {
    return {Stream::kRecommendations, fixture_->shows_keys() ? key : "", value, {}};
  }

  std::unique_ptr<SinkFixture> fixture_;
};

TEST_P(SinkContract, PublishedRecordsAreSeenAfterCommit) {
  const auto sink = fixture_->Make();
  {
    std::string key = "u1";
    std::string value = R"({"n":1})";
    const OutputRecord record = Answer(key, value);
    ASSERT_TRUE(sink->Publish({&record, 1}).ok());
    key.assign("XX");  // the sink has copied what it keeps
    value.assign("YYYYYYY");
  }
  if (fixture_->hides_until_commit()) {
    EXPECT_THAT(fixture_->Read(), testing::IsEmpty());
  }
  const Status status = sink->Commit({});
  ASSERT_TRUE(status.ok()) << status.error().message();
  EXPECT_THAT(fixture_->Read(), testing::ElementsAre(SeenAnswer("u1", R"({"n":1})")));
}

// In headers; a file has none.
TEST_P(SinkContract, RecommendationsCarryTheTraceOfTheirEvent) {
  const auto sink = fixture_->Make();
  std::string parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", state = "congo=t61rcWkgMzE";
  std::vector<OutputRecord> records(3, Answer("u", R"({"n":1})"));
  records[0].trace.traceparent = records[1].trace.traceparent = parent;
  records[0].trace.tracestate = state;
  ASSERT_TRUE(sink->Publish(records).ok());
  const std::map<std::string, std::string> whole = {{"traceparent", parent}, {"tracestate", state}};
  parent.assign(parent.size(), 'X');  // the sink has copied what it keeps
  state.assign(state.size(), 'Y');
  ASSERT_TRUE(sink->Commit({}).ok());
  std::vector<SeenOutput> expected(3, SeenAnswer("u", R"({"n":1})"));
  if (fixture_->shows_keys()) {
    expected[0].headers = whole;
    expected[1].headers = {*whole.begin()};
  }
  EXPECT_EQ(fixture_->Read(), expected);
}

TEST_P(SinkContract, KeepsTheOrderOverSeveralCommits) {
  const auto sink = fixture_->Make();
  std::vector<SeenOutput> expected;
  for (int commit = 0; commit < 3; ++commit) {
    for (int i = 0; i < 5; ++i) {
      const std::string value = R"({"n":)" + std::to_string(commit * 5 + i) + "}";
      const OutputRecord record = Answer("u", value);
      ASSERT_TRUE(sink->Publish({&record, 1}).ok());
      expected.push_back(SeenAnswer("u", value));
    }
    ASSERT_TRUE(sink->Commit({}).ok());
    EXPECT_EQ(fixture_->Read(), expected);
  }
}

TEST_P(SinkContract, AbortThrowsAwayWhatIsPending) {
  const auto sink = fixture_->Make();
  const OutputRecord gone = Answer("u1", R"({"n":1})");
  const OutputRecord kept = Answer("u2", R"({"n":2})");
  if (fixture_->hides_until_commit()) {
    ASSERT_TRUE(sink->Publish({&gone, 1}).ok());
  }
  ASSERT_TRUE(sink->Abort().ok());
  ASSERT_TRUE(sink->Publish({&kept, 1}).ok());
  ASSERT_TRUE(sink->Commit({}).ok());
  EXPECT_THAT(fixture_->Read(), testing::ElementsAre(SeenAnswer("u2", R"({"n":2})")));
}

TEST_P(SinkContract, DeadLettersKeepKeyBytesAndHeaders) {
  const auto sink = fixture_->Make();
  const std::string bytes("\xff\x00{\"broken\n", 11);
  const OutputRecord letter{Stream::kDeadLetters,
                            "k\x01",
                            bytes,
                            {{"freshet.error", "invalid_json"},
                             {"freshet.message", "found \"x\""},
                             {"freshet.topic", "events"},
                             {"freshet.partition", "3"},
                             {"freshet.offset", "4711"}}};
  ASSERT_TRUE(sink->Publish({&letter, 1}).ok());
  ASSERT_TRUE(sink->Commit({}).ok());
  const auto seen = fixture_->Read();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].stream, Stream::kDeadLetters);
  EXPECT_EQ(seen[0].key, "k\x01");
  EXPECT_EQ(seen[0].value, bytes);
  EXPECT_THAT(seen[0].headers, testing::IsSupersetOf(letter.headers));
}

TEST_P(SinkContract, PositionsAreCommittedWithTheRecords) {
  const auto sink = fixture_->Make();
  const OutputRecord record = Answer("u1", R"({"n":1})");
  ASSERT_TRUE(sink->Publish({&record, 1}).ok());
  const std::vector<PartitionPosition> positions{{PartitionId{0}, Offset{7}}, {PartitionId{1}, Offset{9}}};
  ASSERT_TRUE(sink->Commit(positions).ok());
  EXPECT_EQ(fixture_->Read().size(), 1u);
  if (!fixture_->keeps_positions()) return;
  EXPECT_EQ(fixture_->Committed(PartitionId{0}), Offset{7});
  EXPECT_EQ(fixture_->Committed(PartitionId{1}), Offset{9});
  ASSERT_TRUE(sink->Commit(std::vector<PartitionPosition>{{PartitionId{1}, Offset{12}}}).ok());
  EXPECT_EQ(fixture_->Committed(PartitionId{0}), Offset{7});
  EXPECT_EQ(fixture_->Committed(PartitionId{1}), Offset{12});
}

TEST_P(SinkContract, AnEmptyCommitIsFine) {
  const auto sink = fixture_->Make();
  EXPECT_TRUE(sink->Commit({}).ok());
  EXPECT_THAT(fixture_->Read(), testing::IsEmpty());
}

}  // namespace freshet
