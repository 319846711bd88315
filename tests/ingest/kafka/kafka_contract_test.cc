// The contract suites of sources and sinks on Kafka.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "ingest/kafka_range.h"
#include "tests/ingest/kafka/joined_ends.h"
#include "tests/ingest/kafka/test_broker.h"
#include "tests/ingest/sink_contract.h"
#include "tests/ingest/source_contract.h"

namespace freshet {
namespace {

KafkaOptions NewOptions() {
  KafkaOptions options;
  options.application = UniqueName("contract");
  options.bootstrap_servers = TestBroker::Shared().address();
  return options;
}

class KafkaSourceFixture : public SourceFixture {
 public:
  KafkaSourceFixture() { options_.source_topic = TestBroker::Shared().NewTopic("contract-in", 2); }

  void Write(int partition, const std::vector<std::string>& values) override {
    std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>> records;
    for (const std::string& value : values) records.emplace_back("key", value);
    TestBroker::Shared().Produce(options_.source_topic, partition, records);
  }
  std::unique_ptr<EventSource> Make() override { return MakeKafkaSource(options_).value(); }
  bool ends() const override { return false; }
  const KafkaOptions& options() const { return options_; }

 private:
  KafkaOptions options_ = NewOptions();
};

// Settles the range with its first source, as a program does at its first start.
class KafkaRangeFixture : public SourceFixture {
 public:
  void Write(int partition, const std::vector<std::string>& values) override { topic_.Write(partition, values); }
  std::unique_ptr<EventSource> Make() override {
    if (range_.empty())
      range_ = SettleRange(topic_.options(), "earliest", "latest", [](auto&) { return true; }).value();
    return MakeKafkaRangeSource(topic_.options(), range_, 0, 1, commit_log_.get()).value();
  }
  Status Commit(EventSource& source, const std::vector<PartitionPosition>& positions) override {
    RETURN_IF_ERROR(commit_log_->Commit(positions, {}));
    return source.Commit(positions);
  }
  // What lies before the range counts as answered.
  std::optional<Offset> committed_at_first() const override { return Offset{0}; }

 private:
  KafkaSourceFixture topic_;
  TopicRange range_;
  std::unique_ptr<CommitLog> commit_log_ = CommitLog::Open({}, {}).value();
};

class KafkaSinkFixture : public SinkFixture {
 public:
  KafkaSinkFixture() {
    options_.recommendations_topic = TestBroker::Shared().NewTopic("contract-out", 1);
    options_.dead_letters_topic = TestBroker::Shared().NewTopic("contract-dead", 1);
  }

  std::unique_ptr<RecordSink> Make() override { return MakeKafkaSink(options_).value(); }
  std::vector<SeenOutput> Read() override {
    std::vector<SeenOutput> seen;
    const auto read = [&](Stream stream, const std::string& topic) {
      for (const auto& record : TestBroker::Shared().Read(topic)) {
        seen.push_back({stream, record.key.value_or(""), record.value.value_or(""), record.headers});
      }
    };
    read(Stream::kRecommendations, options_.recommendations_topic);
    read(Stream::kDeadLetters, options_.dead_letters_topic);
    return seen;
  }
  bool hides_until_commit() const override { return false; }

 protected:
  KafkaOptions options_ = NewOptions();
};

// Counts what was committed.
class CountingSink : public RecordSink {
 public:
  CountingSink(RecordSink& sink, size_t& committed) : sink_(sink), committed_(committed) {}

  Status Publish(std::span<const OutputRecord> records) override {
    pending_ += records.size();
    return sink_.Publish(records);
  }
  Status Commit(std::span<const PartitionPosition> positions) override {
    RETURN_IF_ERROR(sink_.Commit(positions));
    committed_ += std::exchange(pending_, 0);
    return {};
  }
  Status Abort() override {
    pending_ = 0;
    return sink_.Abort();
  }

 private:
  RecordSink& sink_;
  size_t& committed_;
  size_t pending_ = 0;
};

class TransactionalSinkFixture : public KafkaSinkFixture {
 public:
  TransactionalSinkFixture() {
    options_.instance = UniqueName("instance");
    options_.source_topic = TestBroker::Shared().NewTopic("contract-in", 2);
  }

  std::unique_ptr<RecordSink> Make() override {
    ends_ = std::make_unique<JoinedEnds>(options_);
    return std::make_unique<CountingSink>(ends_->sink(), committed_);
  }
  // Readers see a transaction some milliseconds after its commit.
  std::vector<SeenOutput> Read() override {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::vector<SeenOutput> seen = KafkaSinkFixture::Read();
    while (seen.size() < committed_ && std::chrono::steady_clock::now() < until) seen = KafkaSinkFixture::Read();
    return seen;
  }
  std::optional<Offset> Committed(PartitionId partition) override {
    const auto committed = TestBroker::Shared().Committed(options_.application, options_.source_topic, Raw(partition));
    return committed ? std::optional(Offset{*committed}) : std::nullopt;
  }
  bool keeps_positions() const override { return true; }
  bool hides_until_commit() const override { return true; }

 private:
  std::unique_ptr<JoinedEnds> ends_;
  size_t committed_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Kafka, SourceContract,
                         testing::Values(SourceKind{"kafka", [] { return std::make_unique<KafkaSourceFixture>(); }},
                                         SourceKind{"range", [] { return std::make_unique<KafkaRangeFixture>(); }}));
INSTANTIATE_TEST_SUITE_P(Kafka, SinkContract,
                         testing::Values(SinkKind{"kafka", [] { return std::make_unique<KafkaSinkFixture>(); }},
                                         SinkKind{"transactions",
                                                  [] { return std::make_unique<TransactionalSinkFixture>(); }}));

}  // namespace
}  // namespace freshet
