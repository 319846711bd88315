// The contract suites on the kinds that need no broker. Kafka runs them in tests/ingest/kafka/.
#include <nlohmann/json.hpp>

#include "ingest/log_files.h"
#include "ingest/memory.h"
#include "tests/ingest/files_for_tests.h"
#include "tests/ingest/sink_contract.h"
#include "tests/ingest/source_contract.h"

namespace freshet {
namespace {

class MemorySourceFixture : public SourceFixture {
 public:
  void Write(int partition, const std::vector<std::string>& values) override {
    topic_.partitions.resize(std::max(topic_.partitions.size(), static_cast<size_t>(partition) + 1));
    auto& records = topic_.partitions[static_cast<size_t>(partition)];
    records.insert(records.end(), values.begin(), values.end());
  }
  std::unique_ptr<EventSource> Make() override { return std::make_unique<MemorySource>(topic_); }

 private:
  MemoryTopic topic_;
};

std::string Plain(const std::string& bytes) { return bytes; }

// Each Write() makes a file of its own.
class FileSourceFixture : public SourceFixture {
 public:
  explicit FileSourceFixture(std::string (*form)(const std::string&)) : form_(form) {}

  void Write(int, const std::vector<std::string>& values) override {
    std::string lines;
    for (const std::string& value : values) lines += value + "\n";
    paths_.push_back(folder_.Write("events" + std::to_string(paths_.size()), form_(lines)));
  }
  std::unique_ptr<EventSource> Make() override {
    auto log = CommitLog::Open(folder_ / "commits", paths_);
    EXPECT_TRUE(log.ok()) << (log.ok() ? "" : log.error().message());
    logs_.push_back(std::move(log).value());
    LogFileOptions options;
    options.paths = paths_;
    options.partitions = 2;
    return MakeLogFileSource(options, *logs_.back());
  }
  Status Commit(EventSource&, const std::vector<PartitionPosition>& positions) override {
    return logs_.back()->Commit(positions, {});
  }

 private:
  std::string (*form_)(const std::string&);
  TemporaryFolder folder_;
  std::vector<std::filesystem::path> paths_;
  std::vector<std::unique_ptr<CommitLog>> logs_;
};

class MemorySinkFixture : public SinkFixture {
 public:
  std::unique_ptr<RecordSink> Make() override {
    auto sink = std::make_unique<MemorySink>();
    sink_ = sink.get();
    return sink;
  }
  std::vector<SeenOutput> Read() override {
    std::vector<SeenOutput> seen;
    for (const MemorySink::Kept& kept : sink_->committed()) {
      seen.push_back({kept.stream, kept.key, kept.value, {kept.headers.begin(), kept.headers.end()}});
    }
    return seen;
  }

 private:
  MemorySink* sink_ = nullptr;
};

std::string FromBase64(const std::string& text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    if ((count += 6) < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> count & 255);
  }
  return out;
}

// Reads files with the source under test, which the source's own suite covers.
std::vector<std::string> Lines(const std::filesystem::path& path) {
  const std::vector<std::filesystem::path> paths{path};
  auto log = CommitLog::Open("", paths);
  LogFileOptions options;
  options.paths = paths;
  const auto source = MakeLogFileSource(options, **log);
  RecordingListener listener;
  EXPECT_TRUE(source->Open(listener).ok());
  RecordBatch batch;
  EXPECT_EQ(*source->Poll(batch, 1 << 20, std::chrono::milliseconds(0)), PollState::kEnd);
  std::vector<std::string> lines;
  for (const RawRecord& record : batch.records) lines.emplace_back(record.value);
  return lines;
}

class FileSinkFixture : public SinkFixture {
 public:
  explicit FileSinkFixture(const std::string& extension)
      : answers_(folder_ / ("out.jsonl" + extension)), letters_(folder_ / ("dead.jsonl" + extension)) {
    log_ = CommitLog::Open(folder_ / "commits", {}).value();
  }
  std::unique_ptr<RecordSink> Make() override {
    return MakeFileSink(OpenOutputFile(answers_.string(), *log_).value(),
                        OpenOutputFile(letters_.string(), *log_).value(), *log_);
  }
  std::vector<SeenOutput> Read() override {
    std::vector<SeenOutput> seen;
    for (const std::string& line : Lines(answers_)) seen.push_back({Stream::kRecommendations, "", line, {}});
    for (const std::string& line : Lines(letters_)) seen.push_back(ReadLetter(line));
    return seen;
  }
  std::optional<Offset> Committed(PartitionId partition) override { return log_->Committed(partition); }
  bool keeps_positions() const override { return true; }
  bool shows_keys() const override { return false; }

 private:
  static SeenOutput ReadLetter(const std::string& line) {
    const auto json = nlohmann::json::parse(line);
    SeenOutput letter{Stream::kDeadLetters, Bytes(json, "key"), Bytes(json, "value"), {}};
    for (const auto& [name, value] : json.items()) {
      if (name.starts_with("key") || name.starts_with("value")) continue;
      letter.headers["freshet." + name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
    return letter;
  }
  static std::string Bytes(const nlohmann::json& json, const std::string& name) {
    return json.contains(name) ? json.at(name).get<std::string>() : FromBase64(json.at(name + "_base64"));
  }

  TemporaryFolder folder_;
  std::filesystem::path answers_;
  std::filesystem::path letters_;
  std::unique_ptr<CommitLog> log_;
};

template <typename Fixture, typename... Arguments>
auto Maker(Arguments... arguments) {
  return [=] { return std::make_unique<Fixture>(arguments...); };
}
template <typename Kind>
std::string KindName(const testing::TestParamInfo<Kind>& kind) {
  return kind.param.name;
}

INSTANTIATE_TEST_SUITE_P(Sources, SourceContract,
                         testing::Values(SourceKind{"memory", Maker<MemorySourceFixture>()},
                                         SourceKind{"plain_files", Maker<FileSourceFixture>(&Plain)},
                                         SourceKind{"gzip_files", Maker<FileSourceFixture>(&GzipBytes)},
                                         SourceKind{"zstd_files", Maker<FileSourceFixture>(&ZstdBytes)}),
                         KindName<SourceKind>);

INSTANTIATE_TEST_SUITE_P(Sinks, SinkContract,
                         testing::Values(SinkKind{"memory", Maker<MemorySinkFixture>()},
                                         SinkKind{"plain_files", Maker<FileSinkFixture>(std::string())},
                                         SinkKind{"gzip_files", Maker<FileSinkFixture>(std::string(".gz"))},
                                         SinkKind{"zstd_files", Maker<FileSinkFixture>(std::string(".zst"))}),
                         KindName<SinkKind>);

}  // namespace
}  // namespace freshet
