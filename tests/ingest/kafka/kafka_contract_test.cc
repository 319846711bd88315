// The contract suites of sources and sinks on Kafka.
#include <string>
#include <vector>

#include "ingest/kafka_range.h"
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

 private:
  KafkaOptions options_ = NewOptions();
};

INSTANTIATE_TEST_SUITE_P(Kafka, SourceContract,
                         testing::Values(SourceKind{"kafka", [] { return std::make_unique<KafkaSourceFixture>(); }},
                                         SourceKind{"range", [] { return std::make_unique<KafkaRangeFixture>(); }}));
INSTANTIATE_TEST_SUITE_P(Kafka, SinkContract,
                         testing::Values(SinkKind{"kafka", [] { return std::make_unique<KafkaSinkFixture>(); }}));

}  // namespace
}  // namespace freshet
