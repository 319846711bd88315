// A real Apache Kafka broker for tests, with the few things that they do to it from outside freshet.
//
// Everything waits until it is done, and fails the test (or aborts, where no test runs) if that takes too long.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

struct rd_kafka_s;

namespace freshet {

class TestBroker {
 public:
  struct Record {
    int32_t partition = 0;
    int64_t offset = 0;
    std::optional<std::string> key;
    std::optional<std::string> value;
    std::map<std::string, std::string> headers;
  };

  // The one that CTest's fixture started; its directory is in FRESHET_TEST_KAFKA.
  static TestBroker& Shared();
  // One of its own, in a temporary directory; stopped and deleted with the object.
  static std::unique_ptr<TestBroker> Own();
  ~TestBroker();

  const std::string& address() const { return address_; }

  // Makes a topic whose name begins with `hint` and is new.
  std::string NewTopic(const std::string& hint, int partitions,
                       const std::map<std::string, std::string>& settings = {});
  void CreateTopic(const std::string& name, int partitions, const std::map<std::string, std::string>& settings = {});
  void DeleteTopic(const std::string& name);
  void AddPartitions(const std::string& topic, int in_all);
  // Deletes the records before `offset`.
  void DeleteRecords(const std::string& topic, int32_t partition, int64_t offset);

  // Appends records, each in a batch of its own; `time_ms` is that of the first, and each next is a second later.
  void Produce(const std::string& topic, int32_t partition,
               const std::vector<std::pair<std::optional<std::string>, std::optional<std::string>>>& records,
               int64_t time_ms = 1500000000000);
  // `count` records "FIRST", "FIRST + 1", ... with a key.
  void ProduceNumbers(const std::string& topic, int32_t partition, int first, int count);
  // The same in one transaction, committed or aborted.
  void ProduceTransaction(const std::string& topic, int32_t partition, int first, int count, bool commit);

  // All that readers of committed records see now, by partition and offset.
  std::vector<Record> Read(const std::string& topic);
  // The end of a partition's log.
  int64_t End(const std::string& topic, int32_t partition);
  std::optional<int64_t> Committed(const std::string& group, const std::string& topic, int32_t partition);
  void Commit(const std::string& group, const std::string& topic, int32_t partition, int64_t offset);

  // REQUIRES: Own().
  void Stop();
  void Start();

 private:
  TestBroker(std::string directory, bool own);
  rd_kafka_s* client();

  const std::string directory_;
  const bool own_;
  std::string address_;
  rd_kafka_s* client_ = nullptr;
};

// A name that no earlier test of this or another run has used.
std::string UniqueName(const std::string& hint);

}  // namespace freshet
