// What the tests of class Pipeline share: a small model, random topics, and a pipeline with all that it needs.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ingest/memory.h"
#include "pipeline/pipeline.h"
#include "state/snapshot.h"
#include "tests/support/seed.h"
#include "tests/support/temporary_directory.h"

namespace freshet {

using nlohmann::json;

inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.items = 60;
  config.event_types = 2;
  config.dim = 16;
  config.layers = 2;
  config.heads = 2;
  config.window = 5;
  config.temperature = 0.05;
  return config;
}

inline ServingModel Serve(const ModelConfig& config, uint64_t seed,
                          CachePrecision cache_precision = CachePrecision::kFp32) {
  ServingModel serving;
  serving.model = RandomModel(config, seed);
  serving.engine = Engine::Make(*serving.model, cache_precision).value();
  serving.ranker = Ranker::Make(*serving.model).value();
  serving.MakeEncoders({});
  return serving;
}

inline ServingModel Serve(uint64_t seed) { return Serve(SmallConfig(), seed); }

inline std::string EventJson(const std::string& user, const std::string& item, int64_t time_ms) {
  return json{{"user_id", user}, {"item_id", item}, {"event_type", "view"}, {"timestamp", time_ms}}.dump();
}

// `count` events of a few users over two partitions (a user stays in one), some with items that no model knows.
inline MemoryTopic RandomTopic(size_t count, uint64_t seed) {
  MemoryTopic topic;
  topic.name = "clicks";
  topic.partitions.resize(2);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t user = random() % 7;
    const std::string item = random() % 20 == 0 ? "new" + std::to_string(i) : "i" + std::to_string(1 + random() % 59);
    topic.partitions[user % 2].push_back(
        EventJson("u" + std::to_string(user), item, 1'600'000'000'000 + static_cast<int64_t>(random() % 100'000'000)));
  }
  return topic;
}

// Everything around one pipeline. Destroying it without Close() is a crash: what was not committed is gone.
struct Processor {
  Processor(const std::filesystem::path& directory, const ServingModel& serving, MemoryTopic& topic, RecordSink& sink,
            PipelineOptions options = {}, size_t history = 0)
      : Processor(directory, serving, std::make_unique<MemorySource>(topic), sink, std::move(options), nullptr,
                  history) {}
  Processor(const std::filesystem::path& directory, const ServingModel& serving, std::unique_ptr<EventSource> input,
            RecordSink& sink, PipelineOptions options, WorkerMetrics* metrics = nullptr, size_t history = 0)
      : source(std::move(input)), decoder(MakeDecoder({}).value()) {
    StateOptions state;
    state.directory = directory;
    state.history = std::max(history, serving.model->config.exact_history());
    if (options.snapshots.read) state.snapshots = "snapshots";
    states = StateDirectory::Open(state).value();
    options.origin = [](PartitionId partition, Offset offset) { return Origin{"clicks", partition, offset}; };
    pipeline = std::make_unique<Pipeline>(options, Borrowed(serving), *decoder, *source, sink, *states, metrics);
    EXPECT_TRUE(pipeline->Open().ok());
  }

  // Micro-batches until the end, at most `steps`.
  void Run(int steps = 1'000'000) {
    for (int step = 0; step < steps; ++step) {
      const auto state = pipeline->Step(std::chrono::milliseconds(0));
      ASSERT_TRUE(state.ok()) << state.error().message();
      if (*state == PollState::kEnd) return;
    }
  }

  LiveAnswer Ask(const LiveQuery& query) {
    const LiveQuery* const one = &query;
    return pipeline->Answer(std::span(&one, 1)).at(0);
  }

  std::unique_ptr<EventSource> source;
  std::unique_ptr<EventDecoder> decoder;
  std::unique_ptr<StateDirectory> states;
  std::unique_ptr<Pipeline> pipeline;
};

// Recommendations in a sink, by user and sequence number.
inline std::map<std::pair<std::string, int64_t>, json> Answers(const MemorySink& sink) {
  std::map<std::pair<std::string, int64_t>, json> answers;
  for (const auto& record : sink.committed()) {
    if (record.stream != Stream::kRecommendations) continue;
    json value = json::parse(record.value);
    EXPECT_EQ(value["user_id"], record.key);
    const auto key = std::pair(record.key, value["sequence_number"].get<int64_t>());
    EXPECT_TRUE(answers.emplace(key, value).second) << "twice: " << record.value;
  }
  return answers;
}

inline std::string DigestOf(StateDirectory& states) {
  StateDigest digest;
  for (const PartitionId id : states.Partitions().value()) {
    auto store = states.OpenPartition(id).value();
    EXPECT_TRUE(store
                    ->ForEach([&](const UserState& user) {
                      digest.Add(user);
                      return true;
                    })
                    .ok());
  }
  return digest.Hex();
}

inline void ExpectSameAnswers(const MemorySink& actual, const MemorySink& expected) {
  const auto left = Answers(actual), right = Answers(expected);
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [key, answer] : right) {
    const json& other = left.at(key);
    EXPECT_EQ(other["source"], answer["source"]);
    ASSERT_EQ(other["items"].size(), answer["items"].size());
    for (size_t i = 0; i < answer["items"].size(); ++i) {
      EXPECT_NEAR(other["items"][i]["score"].get<float>(), answer["items"][i]["score"].get<float>(), 1e-3)
          << key.first << " " << key.second;
    }
  }
}

// The compacted snapshots of a sink, to be read by pipelines.
class Snapshots {
 public:
  explicit Snapshots(const MemorySink& sink) : sink_(sink) {}

  SnapshotOptions options() {
    SnapshotOptions options;
    options.interval = std::chrono::milliseconds(4);
    options.whose = "freshet, clicks";
    options.read = [this](PartitionId partition) -> Result<std::unique_ptr<EventSource>> {
      return std::unique_ptr<EventSource>(std::make_unique<MemorySource>(Compacted(partition)));
    };
    return options;
  }

  MemoryTopic& Compacted(PartitionId partition) {
    std::map<std::string, MemorySink::Kept> newest;
    for (const MemorySink::Kept& kept : sink_.committed()) {
      if (kept.stream == Stream::kSnapshots && kept.partition == partition) newest[kept.key] = kept;
    }
    MemoryTopic& topic = topics_[partition];
    topic = {.name = "snapshots", .partitions = {{}}, .committed = {}, .keys = {{}}, .tombstones = {}};
    for (const auto& [key, kept] : newest) {
      if (kept.tombstone) topic.tombstones.emplace(0, std::ssize(topic.keys[0]));
      topic.keys[0].push_back(key);
      topic.partitions[0].push_back(kept.value);
    }
    return topic;
  }

  // The watermark's position.
  std::optional<Offset> Position(PartitionId partition) {
    const MemoryTopic& topic = Compacted(partition);
    for (size_t n = 0; n < topic.keys[0].size(); ++n) {
      const std::string& key = topic.keys[0][n];
      if (!IsWatermarkKey(key)) continue;
      return DecodeWatermark(DecodeSnapshot(key, topic.partitions[0][n]).value()).value().position;
    }
    return std::nullopt;
  }

 private:
  const MemorySink& sink_;
  std::map<PartitionId, MemoryTopic> topics_;
};

class PipelineTest : public testing::Test {
 protected:
  TemporaryDirectory temporary_;
  ServingModel serving_ = Serve(3);
};

}  // namespace freshet
