#include "tests/ingest/kafka/test_broker.h"

#include <gtest/gtest.h>
#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

namespace freshet {
namespace {

constexpr int kTimeoutMs = 60000;

void Check(bool good, const std::string& what) {
  if (good) return;
  std::fprintf(stderr, "test broker: %s\n", what.c_str());
  std::abort();
}

void Check(rd_kafka_resp_err_t code, const std::string& what) {
  Check(code == RD_KAFKA_RESP_ERR_NO_ERROR, what + ": " + rd_kafka_err2str(code));
}

using ListHandle = std::unique_ptr<rd_kafka_topic_partition_list_t, decltype(&rd_kafka_topic_partition_list_destroy)>;

ListHandle PartitionList(const std::string& topic, int32_t partition, int64_t offset = RD_KAFKA_OFFSET_INVALID) {
  ListHandle list(rd_kafka_topic_partition_list_new(1), &rd_kafka_topic_partition_list_destroy);
  rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = offset;
  return list;
}

rd_kafka_t* NewClient(rd_kafka_type_t type, const std::string& address,
                      const std::map<std::string, std::string>& settings) {
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  std::array<char, 512> message{};
  auto all = settings;
  all["bootstrap.servers"] = address;
  all["log_level"] = "0";
  for (const auto& [name, value] : all) {
    Check(rd_kafka_conf_set(conf, name.c_str(), value.c_str(), message.data(), message.size()) == RD_KAFKA_CONF_OK,
          message.data());
  }
  rd_kafka_t* const client = rd_kafka_new(type, conf, message.data(), message.size());
  Check(client != nullptr, message.data());
  return client;
}

// Runs an administrative request and gives its outcome to `examine`.
template <typename Request, typename Examine>
void Administer(rd_kafka_t* client, rd_kafka_admin_op_t operation, Request request, Examine examine) {
  rd_kafka_queue_t* const queue = rd_kafka_queue_new(client);
  rd_kafka_AdminOptions_t* const options = rd_kafka_AdminOptions_new(client, operation);
  std::array<char, 512> message{};
  rd_kafka_AdminOptions_set_request_timeout(options, kTimeoutMs, message.data(), message.size());
  request(options, queue);
  rd_kafka_event_t* const event = rd_kafka_queue_poll(queue, kTimeoutMs);
  Check(event != nullptr, "no answer to an administrative request");
  Check(rd_kafka_event_error(event), "administrative request");
  examine(event);
  rd_kafka_event_destroy(event);
  rd_kafka_AdminOptions_destroy(options);
  rd_kafka_queue_destroy(queue);
}

void CheckTopicResults(const rd_kafka_topic_result_t* const* results, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Check(rd_kafka_topic_result_error(results[i]), rd_kafka_topic_result_name(results[i]));
  }
}

char* BytesOf(const std::optional<std::string>& text) { return text ? const_cast<char*>(text->data()) : nullptr; }
size_t SizeOf(const std::optional<std::string>& text) { return text ? text->size() : 0; }

int LocalKafka(const std::string& arguments) {
  return std::system((std::string(FRESHET_SOURCE_DIR "/deploy/local-kafka.sh ") + arguments + " >&2").c_str());
}

TestBroker::Record ToRecord(const rd_kafka_message_t& message) {
  TestBroker::Record record{message.partition, message.offset, std::nullopt, std::nullopt, {}};
  if (message.key != nullptr) record.key.emplace(static_cast<const char*>(message.key), message.key_len);
  if (message.payload != nullptr) record.value.emplace(static_cast<const char*>(message.payload), message.len);
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) return record;
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i) {
    record.headers[name] = std::string(static_cast<const char*>(value), size);
  }
  return record;
}

}  // namespace

std::string UniqueName(const std::string& hint) {
  static std::atomic<int> count = 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return hint + "-" + std::to_string(getpid()) + "-" + std::to_string(now) + "-" + std::to_string(count++);
}

TestBroker& TestBroker::Shared() {
  static TestBroker* const broker = [] {
    const char* const directory = std::getenv("FRESHET_TEST_KAFKA");
    Check(directory != nullptr,
          "run this through ctest, or set FRESHET_TEST_KAFKA to the directory of a broker of deploy/local-kafka.sh "
          "start --directory");
    return new TestBroker(directory, false);
  }();
  return *broker;
}

std::unique_ptr<TestBroker> TestBroker::Own() {
  std::string directory = (std::filesystem::temp_directory_path() / "freshet-kafka-XXXXXX").string();
  Check(mkdtemp(directory.data()) != nullptr, "mkdtemp");
  return std::unique_ptr<TestBroker>(new TestBroker(directory, true));
}

TestBroker::TestBroker(std::string directory, bool own) : directory_(std::move(directory)), own_(own) {
  if (own_) Check(LocalKafka("start --port 0 --directory " + directory_) == 0, "the broker does not start");
  std::ifstream(directory_ + "/address") >> address_;
  Check(!address_.empty(), "no address in " + directory_);
}

TestBroker::~TestBroker() {
  if (client_ != nullptr) rd_kafka_destroy(client_);
  if (!own_) return;
  LocalKafka("stop --now --directory " + directory_);
  std::filesystem::remove_all(directory_);
}

void TestBroker::Stop() { Check(LocalKafka("stop --directory " + directory_) == 0, "the broker does not stop"); }

void TestBroker::Start() { Check(LocalKafka("start --directory " + directory_) == 0, "the broker does not start"); }

rd_kafka_s* TestBroker::client() {
  if (client_ == nullptr)
    client_ = NewClient(RD_KAFKA_PRODUCER, address_, {{"linger.ms", "0"}, {"batch.num.messages", "1"}});
  return client_;
}

std::string TestBroker::NewTopic(const std::string& hint, int partitions,
                                 const std::map<std::string, std::string>& settings) {
  const std::string name = UniqueName(hint);
  CreateTopic(name, partitions, settings);
  return name;
}

void TestBroker::CreateTopic(const std::string& name, int partitions,
                             const std::map<std::string, std::string>& settings) {
  rd_kafka_NewTopic_t* topic = rd_kafka_NewTopic_new(name.c_str(), partitions, 1, nullptr, 0);
  for (const auto& [key, value] : settings) Check(rd_kafka_NewTopic_set_config(topic, key.c_str(), value.c_str()), key);
  Administer(
      client(), RD_KAFKA_ADMIN_OP_CREATETOPICS,
      [&](auto* options, auto* queue) { rd_kafka_CreateTopics(client(), &topic, 1, options, queue); },
      [](rd_kafka_event_t* event) {
        size_t count = 0;
        const auto* const results =
            rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
        CheckTopicResults(results, count);
      });
  rd_kafka_NewTopic_destroy(topic);
  rd_kafka_topic_t* const handle = rd_kafka_topic_new(client(), name.c_str(), nullptr);
  for (bool known = false; !known;) {
    const rd_kafka_metadata_t* metadata = nullptr;
    Check(rd_kafka_metadata(client(), 0, handle, &metadata, kTimeoutMs), "metadata");
    known = metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR && metadata->topics[0].partition_cnt == partitions;
    for (int i = 0; known && i < partitions; ++i) known = metadata->topics[0].partitions[i].leader >= 0;
    rd_kafka_metadata_destroy(metadata);
  }
  rd_kafka_topic_destroy(handle);
}

void TestBroker::DeleteTopic(const std::string& name) {
  rd_kafka_DeleteTopic_t* topic = rd_kafka_DeleteTopic_new(name.c_str());
  Administer(
      client(), RD_KAFKA_ADMIN_OP_DELETETOPICS,
      [&](auto* options, auto* queue) { rd_kafka_DeleteTopics(client(), &topic, 1, options, queue); },
      [](rd_kafka_event_t* event) {
        size_t count = 0;
        const auto* const results =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
        CheckTopicResults(results, count);
      });
  rd_kafka_DeleteTopic_destroy(topic);
}

void TestBroker::AddPartitions(const std::string& topic, int in_all) {
  std::array<char, 512> message{};
  rd_kafka_NewPartitions_t* partitions =
      rd_kafka_NewPartitions_new(topic.c_str(), static_cast<size_t>(in_all), message.data(), message.size());
  Administer(
      client(), RD_KAFKA_ADMIN_OP_CREATEPARTITIONS,
      [&](auto* options, auto* queue) { rd_kafka_CreatePartitions(client(), &partitions, 1, options, queue); },
      [](rd_kafka_event_t* event) {
        size_t count = 0;
        const auto* const results =
            rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count);
        CheckTopicResults(results, count);
      });
  rd_kafka_NewPartitions_destroy(partitions);
}

void TestBroker::DeleteRecords(const std::string& topic, int32_t partition, int64_t offset) {
  const auto list = PartitionList(topic, partition, offset);
  rd_kafka_DeleteRecords_t* deletion = rd_kafka_DeleteRecords_new(list.get());
  Administer(
      client(), RD_KAFKA_ADMIN_OP_DELETERECORDS,
      [&](auto* options, auto* queue) { rd_kafka_DeleteRecords(client(), &deletion, 1, options, queue); },
      [](rd_kafka_event_t* event) {
        const auto* const results = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
        Check(results->elems[0].err, "delete records");
      });
  rd_kafka_DeleteRecords_destroy(deletion);
}

void TestBroker::Produce(const std::string& topic, int32_t partition,
                         const std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>>& records,
                         int64_t time_ms) {
  const int64_t before = End(topic, partition);
  for (const auto& [key, value] : records) {
    Check(rd_kafka_producev(client(), RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
                            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_TIMESTAMP(time_ms),
                            RD_KAFKA_V_KEY(BytesOf(key), SizeOf(key)), RD_KAFKA_V_VALUE(BytesOf(value), SizeOf(value)),
                            RD_KAFKA_V_END),
          "produce");
    time_ms += 1000;
  }
  Check(rd_kafka_flush(client(), kTimeoutMs), "flush");
  Check(End(topic, partition) == before + static_cast<int64_t>(records.size()), "records are missing in " + topic);
}

void TestBroker::ProduceNumbers(const std::string& topic, int32_t partition, int first, int count) {
  std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>> records;
  for (int number = first; number < first + count; ++number) records.emplace_back("key", std::to_string(number));
  Produce(topic, partition, records);
}

void TestBroker::ProduceTransaction(const std::string& topic, int32_t partition, int first, int count, bool commit) {
  rd_kafka_t* const producer = NewClient(RD_KAFKA_PRODUCER, address_, {{"transactional.id", UniqueName("test")}});
  const auto check = [](rd_kafka_error_t* error) {
    Check(error == nullptr, error == nullptr ? "" : rd_kafka_error_string(error));
  };
  check(rd_kafka_init_transactions(producer, kTimeoutMs));
  check(rd_kafka_begin_transaction(producer));
  for (int number = first; number < first + count; ++number) {
    std::string value = std::to_string(number);
    Check(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic.c_str()), RD_KAFKA_V_PARTITION(partition),
                            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_VALUE(value.data(), value.size()),
                            RD_KAFKA_V_END),
          "produce");
  }
  Check(rd_kafka_flush(producer, kTimeoutMs), "flush");
  check(commit ? rd_kafka_commit_transaction(producer, kTimeoutMs) : rd_kafka_abort_transaction(producer, kTimeoutMs));
  rd_kafka_destroy(producer);
}

std::vector<TestBroker::Record> TestBroker::Read(const std::string& topic) {
  rd_kafka_t* const consumer =
      NewClient(RD_KAFKA_CONSUMER, address_, {{"group.id", "reader"}, {"enable.partition.eof", "true"}});
  rd_kafka_topic_t* const handle = rd_kafka_topic_new(client(), topic.c_str(), nullptr);
  const rd_kafka_metadata_t* metadata = nullptr;
  Check(rd_kafka_metadata(client(), 0, handle, &metadata, kTimeoutMs), "metadata");
  ListHandle list(rd_kafka_topic_partition_list_new(8), &rd_kafka_topic_partition_list_destroy);
  for (int partition = 0; partition < metadata->topics[0].partition_cnt; ++partition) {
    rd_kafka_topic_partition_list_add(list.get(), topic.c_str(), partition)->offset = RD_KAFKA_OFFSET_BEGINNING;
  }
  rd_kafka_metadata_destroy(metadata);
  rd_kafka_topic_destroy(handle);
  Check(rd_kafka_assign(consumer, list.get()), "assign");
  std::map<int32_t, std::vector<Record>> read;
  for (int ended = 0; ended < list->cnt;) {
    rd_kafka_message_t* const message = rd_kafka_consumer_poll(consumer, kTimeoutMs);
    Check(message != nullptr, "nothing more to read from " + topic);
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      ++ended;
    } else {
      Check(message->err, "read");
      read[message->partition].push_back(ToRecord(*message));
    }
    rd_kafka_message_destroy(message);
  }
  rd_kafka_destroy(consumer);
  std::vector<Record> records;
  for (auto& [partition, of_partition] : read) records.insert(records.end(), of_partition.begin(), of_partition.end());
  return records;
}

int64_t TestBroker::End(const std::string& topic, int32_t partition) {
  int64_t low = 0;
  int64_t high = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kTimeoutMs);
  auto code = RD_KAFKA_RESP_ERR__TIMED_OUT;
  while (code != RD_KAFKA_RESP_ERR_NO_ERROR && std::chrono::steady_clock::now() < until) {
    code = rd_kafka_query_watermark_offsets(client(), topic.c_str(), partition, &low, &high, 5000);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  Check(code, "end of " + topic);
  return high;
}

std::optional<int64_t> TestBroker::Committed(const std::string& group, const std::string& topic, int32_t partition) {
  rd_kafka_t* const consumer = NewClient(RD_KAFKA_CONSUMER, address_, {{"group.id", group}});
  const auto list = PartitionList(topic, partition);
  Check(rd_kafka_committed(consumer, list.get(), kTimeoutMs), "committed");
  rd_kafka_destroy(consumer);
  const int64_t offset = list->elems[0].offset;
  return offset >= 0 ? std::optional(offset) : std::nullopt;
}

void TestBroker::Commit(const std::string& group, const std::string& topic, int32_t partition, int64_t offset) {
  rd_kafka_t* const consumer = NewClient(RD_KAFKA_CONSUMER, address_, {{"group.id", group}});
  Check(rd_kafka_commit(consumer, PartitionList(topic, partition, offset).get(), 0), "commit");
  rd_kafka_destroy(consumer);
}

}  // namespace freshet
