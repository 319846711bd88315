// The effective configuration: defaults, then the YAML file, then the environment (FRESHET_STATE__DIRECTORY), then
// --set, each over the one before.
//
// Every key, its meaning, default and bounds: docs/configuration.md (a test holds it against config_schema.cc).
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "inference/cached_rows.h"
#include "ingest/decoder.h"
#include "ingest/kafka.h"
#include "pipeline/http/endpoint.h"

namespace freshet {

enum class Emit { kEvery, kLatest, kFinal, kNone };  // kFinal and kNone: replay only
enum class Guarantee { kExactlyOnce, kAtLeastOnce };

// sink.format.
inline constexpr char kJsonFormat[] = "json";
inline constexpr char kProtobufFormat[] = "protobuf";

struct Config {
  std::string application = "freshet";
  struct {
    std::string bootstrap_servers = "localhost:9092";
    std::map<std::string, std::string> properties;  // librdkafka, verbatim
  } kafka;
  struct {
    std::string topic = "freshet.events";
    DecoderOptions decoder;  // source.format, source.mapping, source.max_record (1MiB)
    std::string start = "earliest";
    OffsetGapPolicy on_offset_gap = OffsetGapPolicy::kFail;
  } source;
  struct {
    int top_k = 100;
    bool exclude_seen = true;
  } recommend;
  struct {
    std::string topic = "freshet.recommendations";
    std::string format = kJsonFormat;
    int protobuf_schema_id = 0;  // 0: no envelope
    bool include_user_vector = false;
  } sink;
  struct {
    std::string topic = "freshet.dead-letters";
  } dead_letters;
  struct {
    std::string topic = "freshet.items";
    std::string file;  // instead of the topic
  } items;
  struct {
    std::string topic = "freshet-snapshots";  // not set: <application>-snapshots; "none": there are none
    std::chrono::milliseconds interval{600'000};
  } snapshots;
  struct {
    std::string directory = "var/freshet";
    size_t hot_cache_bytes = size_t{1} << 30;
    size_t block_cache_bytes = size_t{256} << 20;
    size_t write_buffer_bytes = size_t{64} << 20;  // state.write_buffer
    std::optional<int> history;                    // absent: auto
    int partitions = 8;                            // state.partitions: parts that log files' users are spread over
    std::string rocksdb_options;
    std::chrono::milliseconds keep_lost{86'400'000};
  } state;
  struct {
    std::string directory = "models/demo";
    std::string precision = "auto";
    CachePrecision cache_precision = CachePrecision::kFp32;
  } model;
  struct {
    Guarantee guarantee = Guarantee::kExactlyOnce;
    std::chrono::milliseconds commit_interval{100};
    int max_batch = 256;
    std::optional<int> workers;  // absent: auto, the processor's cores
    Emit emit = Emit::kEvery;
  } processing;
  http::Endpoint http;
  struct {
    std::string directory = "var/serve";
    int max_streams = 400;
  } serve;
  struct {
    std::string level = "info";
    std::string format = "text";
  } log;
};

struct ConfigInput {
  std::optional<std::string> file;  // -c
  std::vector<std::string> sets;    // --set key.path=value, the later over the earlier
  // All variables. Those count that begin with FRESHET_ (FRESHET_TEST_ does not) and whose first level is a known key.
  std::map<std::string, std::string> environment;
};

// All problems at once, a line each: "key: found: expected …; from where". An unknown key suggests the nearest known
// one.
struct ConfigProblems {
  std::vector<std::string> lines;
};

// The configuration, or every problem with it. Nothing outside is looked at except the file itself.
struct ConfigResult {
  Config config;
  ConfigProblems problems;
};
ConfigResult LoadConfig(const ConfigInput& input);

// As YAML with every key, which LoadConfig() reads back to the same; secrets among kafka.properties (IsSecretProperty()
// in config_values.h) print as "********".
std::string PrintConfig(const Config& config);

// Every known key path, in the order of the documentation.
std::vector<std::string> KnownConfigKeys();

}  // namespace freshet
