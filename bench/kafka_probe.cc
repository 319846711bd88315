#include "bench/kafka_probe.h"

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "state/snapshot.h"
#include "state/store.h"

namespace freshet::bench {
namespace {

constexpr int kTimeoutMs = 60'000;

// Runs an administrative request to its end.
void Administer(rd_kafka_t* client, const std::function<void(rd_kafka_queue_t*)>& request) {
  const Owned<rd_kafka_queue_t> answers(rd_kafka_queue_new(client), &rd_kafka_queue_destroy);
  request(answers.get());
  const Owned<rd_kafka_event_t> event(rd_kafka_queue_poll(answers.get(), kTimeoutMs), &rd_kafka_event_destroy);
  if (event == nullptr) Fail("no answer to an administrative request");
  Check(rd_kafka_event_error(event.get()), "administrative request");
  if (rd_kafka_event_type(event.get()) != RD_KAFKA_EVENT_CREATETOPICS_RESULT) return;
  size_t count = 0;
  const auto* const results =
      rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  for (size_t i = 0; i < count; ++i) {
    Check(rd_kafka_topic_result_error(results[i]), rd_kafka_topic_result_name(results[i]));
  }
}

}  // namespace

void Fail(const std::string& what) {
  std::fprintf(stderr, "freshet_kafka_probe: %s\n", what.c_str());
  std::exit(1);
}

void Check(rd_kafka_resp_err_t code, const std::string& what) {
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) Fail(what + ": " + rd_kafka_err2str(code));
}

Client MakeClient(rd_kafka_type_t type, const std::string& address, Settings settings) {
  settings["bootstrap.servers"] = address;
  std::array<char, 512> message{};
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  for (const auto& [name, value] : settings) {
    if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), message.data(), message.size()) != RD_KAFKA_CONF_OK) {
      Fail(message.data());
    }
  }
  Client client(rd_kafka_new(type, conf, message.data(), message.size()), &rd_kafka_destroy);
  if (client == nullptr) Fail(message.data());
  return client;
}

void MakeTopics(const std::string& address, int partitions, const std::vector<std::string>& names, bool compacted) {
  const Client client = MakeClient(RD_KAFKA_PRODUCER, address, {});
  std::array<char, 512> message{};
  for (const std::string& name : names) {
    const Owned<rd_kafka_NewTopic_t> topic(
        rd_kafka_NewTopic_new(name.c_str(), partitions, 1, message.data(), message.size()), &rd_kafka_NewTopic_destroy);
    if (topic == nullptr) Fail(name + ": " + message.data());
    rd_kafka_NewTopic_set_config(topic.get(), "message.timestamp.type", "LogAppendTime");
    if (compacted) rd_kafka_NewTopic_set_config(topic.get(), "cleanup.policy", "compact");
    Administer(client.get(), [&](rd_kafka_queue_t* queue) {
      rd_kafka_NewTopic_t* topics[] = {topic.get()};
      rd_kafka_CreateTopics(client.get(), topics, 1, nullptr, queue);
    });
  }
  for (const std::string& name : names) {
    while (PartitionsOf(client.get(), name) != partitions) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void DeleteTopics(const std::string& address, const std::vector<std::string>& names) {
  const Client client = MakeClient(RD_KAFKA_PRODUCER, address, {});
  for (const std::string& name : names) {
    const Owned<rd_kafka_DeleteTopic_t> topic(rd_kafka_DeleteTopic_new(name.c_str()), &rd_kafka_DeleteTopic_destroy);
    Administer(client.get(), [&](rd_kafka_queue_t* queue) {
      rd_kafka_DeleteTopic_t* topics[] = {topic.get()};
      rd_kafka_DeleteTopics(client.get(), topics, 1, nullptr, queue);
    });
  }
}

int PartitionsOf(rd_kafka_t* client, const std::string& topic) {
  const Owned<rd_kafka_topic_t> handle(rd_kafka_topic_new(client, topic.c_str(), nullptr), &rd_kafka_topic_destroy);
  const rd_kafka_metadata_t* metadata = nullptr;
  Check(rd_kafka_metadata(client, 0, handle.get(), &metadata, kTimeoutMs), topic);
  const int partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
  rd_kafka_metadata_destroy(metadata);
  return partitions;
}

void WriteSnapshot(const SnapshotOptions& options) {
  StateOptions rest;
  rest.directory = options.state;
  rest.application = options.application;
  rest.hot_cache_bytes = 0;
  rest.read_only = true;
  const auto states = StateDirectory::Open(rest);
  if (!states.ok()) Fail(states.error().message());
  const auto partitions = (*states)->Partitions();
  if (!partitions.ok()) Fail(partitions.error().message());

  const Client client = MakeClient(RD_KAFKA_PRODUCER, options.address,
                                   {{"enable.idempotence", "true"}, {"compression.codec", "lz4"}, {"linger.ms", "5"}});
  const Owned<rd_kafka_topic_t> topic(rd_kafka_topic_new(client.get(), options.topic.c_str(), nullptr),
                                      &rd_kafka_topic_destroy);
  int64_t users = 0, bytes = 0;
  const auto publish = [&](PartitionId partition, const std::string& key, const std::string& value) {
    while (rd_kafka_produce(topic.get(), Raw(partition), RD_KAFKA_MSG_F_COPY, const_cast<char*>(value.data()),
                            value.size(), key.data(), key.size(), nullptr) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) Check(rd_kafka_last_error(), options.topic);
      rd_kafka_poll(client.get(), 10);
    }
    bytes += static_cast<int64_t>(key.size() + value.size());
  };
  for (const PartitionId partition : *partitions) {
    const auto store = (*states)->OpenPartition(partition);
    if (!store.ok()) Fail(store.error().message());
    std::string after;
    const auto scanned = (*store)->Scan(after, SIZE_MAX, [&](const StoredUser& user) {
      const std::string key = SnapshotUserKey(user.id);
      publish(partition, key, EncodeSnapshot(key, user.bytes));
      ++users;
      return true;
    });
    if (!scanned.ok()) Fail(scanned.error().message());
    const std::string whose = "application " + options.application + ", topic " + options.events;
    const std::string key = WatermarkKey(whose);
    const Offset position = (*store)->Position().value_or(Offset{0});
    publish(partition, key, EncodeSnapshot(key, EncodeWatermark({position, whose})));
  }
  Check(rd_kafka_flush(client.get(), 10 * kTimeoutMs), options.topic);
  std::printf("%s\n", nlohmann::json({{"users", users}, {"bytes", bytes}}).dump().c_str());
}

namespace {

void Parse(int argc, char** argv) {
  CLI::App app("Kafka's side of bench/kafka.sh");
  app.require_subcommand(1);
  FlowOptions flow;
  SnapshotOptions snapshot;
  std::string address;
  int partitions = 1;
  std::vector<std::string> names;
  bool compacted = false;
  app.add_option("--address", address, "Bootstrap server")->required();

  auto* const topics = app.add_subcommand("topics", "Makes topics");
  topics->add_option("--partitions", partitions);
  topics->add_flag("--compacted", compacted);
  topics->add_option("names", names)->required();
  topics->callback([&] { MakeTopics(address, partitions, names, compacted); });

  auto* const gone = app.add_subcommand("delete", "Deletes topics");
  gone->add_option("names", names)->required();
  gone->callback([&] { DeleteTopics(address, names); });

  auto* const run = app.add_subcommand("flow", "Produces events and reads their answers");
  run->add_option("--events", flow.events)->required();
  run->add_option("--answers", flow.answers);
  run->add_option("--input", flow.input)->required();
  run->add_option("--skip", flow.skip);
  run->add_option("--count", flow.count)->required();
  run->add_option("--rate", flow.rate);
  run->add_option("--warm-up", flow.warm_up_s);
  run->add_option("--wait", flow.wait_s);
  run->callback([&] {
    flow.address = address;
    Flow(flow);
  });

  auto* const review =
      app.add_subcommand("review", "Reads the answers to events that were produced and answered before");
  review->add_option("--answers", flow.answers)->required();
  review->add_option("--count", flow.count)->required();
  review->add_option("--since", flow.since_ms);
  review->callback([&] {
    flow.address = address;
    Review(flow);
  });

  auto* const fill = app.add_subcommand("snapshot", "Fills a snapshot topic from a state directory");
  fill->add_option("--topic", snapshot.topic)->required();
  fill->add_option("--state", snapshot.state)->required();
  fill->add_option("--application", snapshot.application)->required();
  fill->add_option("--events", snapshot.events)->required();
  fill->callback([&] {
    snapshot.address = address;
    WriteSnapshot(snapshot);
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
}

}  // namespace
}  // namespace freshet::bench

int main(int argc, char** argv) { freshet::bench::Parse(argc, argv); }
