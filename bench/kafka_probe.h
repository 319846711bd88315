// What bench/kafka.py needs of Kafka that must not be slow: topics, a producer that keeps a rate beside a reader that
// notes what it saw when, and a snapshot topic filled from a state directory.
#pragma once

#include <librdkafka/rdkafka.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace freshet::bench {

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;
using Client = Owned<rd_kafka_t>;
using Settings = std::map<std::string, std::string>;

// Both end the program with a message: a benchmark has nothing to go back to.
[[noreturn]] void Fail(const std::string& what);
void Check(rd_kafka_resp_err_t code, const std::string& what);

Client MakeClient(rd_kafka_type_t type, const std::string& address, Settings settings);

void MakeTopics(const std::string& address, int partitions, const std::vector<std::string>& names, bool compacted);
void DeleteTopics(const std::string& address, const std::vector<std::string>& names);
// 0: there is no such topic, or the broker has only begun to make it.
int PartitionsOf(rd_kafka_t* client, const std::string& topic);

struct FlowOptions {
  std::string address;
  std::string events;           // topic
  std::string answers;          // topic; empty: nobody answers
  std::filesystem::path input;  // JSON Lines in the default mapping
  int64_t skip = 0;             // its first lines
  int64_t count = 0;            // the lines behind them
  double rate = 0;              // events a second; 0: as fast as it goes
  double warm_up_s = 1;         // events of this first time do not count as latency
  double wait_s = 300;          // for an answer, without any
  int64_t since_ms = 0;         // Review(): answers appended before are not counted; of the broker's clock, from 1970
};
// Produces the lines, reads the answers until each event has one, and prints what was seen as JSON.
void Flow(const FlowOptions& options);
// Reads the answers to `count` events that are all of the topic's, and prints as JSON what they are, and how many
// seconds the broker saw between the first and the last of those counted: a pace that no reader or producer slows.
void Review(const FlowOptions& options);

struct SnapshotOptions {
  std::string address;
  std::string topic;
  std::filesystem::path state;  // a directory at rest that a range of `events` led to
  std::string application;      // the directory's, and whose the snapshot is
  std::string events;           // topic
};
// Writes a directory's users and its positions as `freshet run` does in the course of an interval, and prints their
// number and bytes as JSON.
void WriteSnapshot(const SnapshotOptions& options);

}  // namespace freshet::bench
