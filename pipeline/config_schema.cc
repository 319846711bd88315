#include "pipeline/config_schema.h"

#include <yaml-cpp/yaml.h>

#include <array>
#include <limits>
#include <utility>

#include "ingest/timestamp.h"
#include "pipeline/config_values.h"
#include "state/store.h"

namespace freshet {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kTiB = 1024 * 1024 * kMiB;

// A text that `valid` accepts. Here and below, `get` leads from a (const) Config to the field.
template <typename Get>
Setting Text(std::string_view path, std::string expected, std::string_view description, Get get,
             bool (*valid)(std::string_view)) {
  Setting setting{path, expected, description, {}, {}};
  setting.set = [=](const ConfigValue& value, Config& config, ProblemList& problems) {
    auto text = ScalarText(value);
    if (!text || !valid(*text)) return problems.Expected(value, expected);
    get(config) = *std::move(text);
  };
  setting.print = [get](YAML::Emitter& out, const Config& config) { out << get(config); };
  return setting;
}

bool Anything(std::string_view) { return true; }
bool NotEmpty(std::string_view text) { return !text.empty(); }
bool IsAddressOrNothing(std::string_view text) {
  return text.empty() || (IsBrokerList(text) && text.find(',') == std::string_view::npos);
}
bool IsStart(std::string_view text) {
  return text == "earliest" || text == "latest" || ParseIso8601Ms(text).value_or(-1) >= 0;
}

template <typename Get>
Setting Topic(std::string_view path, std::string_view description, Get get) {
  return Text(path, "a topic name (1 to 249 letters, digits, '.', '_' and '-')", description, get, IsTopicName);
}

template <typename Get>
Setting Flag(std::string_view path, std::string_view description, Get get) {
  Setting setting{path, "true or false", description, {}, {}};
  setting.set = [get](const ConfigValue& value, Config& config, ProblemList& problems) {
    const auto text = ScalarText(value);
    if (text != "true" && text != "false") return problems.Expected(value, "true or false");
    get(config) = text == "true";
  };
  setting.print = [get](YAML::Emitter& out, const Config& config) { out << get(config); };
  return setting;
}

// A text that `parse` understands, its value from `low` to `high`.
template <typename Get, typename Value>
Setting Bounded(std::string_view path, std::string expected, std::string_view description, Get get,
                std::optional<Value> (*parse)(std::string_view), std::string (*format)(Value), Value low, Value high) {
  const std::string bounds = format(low) + " to " + format(high);
  Setting setting{path, expected + ", from " + bounds, description, {}, {}};
  setting.set = [=](const ConfigValue& value, Config& config, ProblemList& problems) {
    const auto text = ScalarText(value);
    const auto parsed = text ? parse(*text) : std::nullopt;
    if (!parsed) return problems.Expected(value, expected);
    if (*parsed < low || *parsed > high) return problems.Expected(value, "from " + bounds);
    get(config) = static_cast<std::remove_reference_t<decltype(get(config))>>(*parsed);
  };
  setting.print = [=](YAML::Emitter& out, const Config& config) { out << format(static_cast<Value>(get(config))); };
  return setting;
}

template <typename Get>
Setting Size(std::string_view path, std::string_view description, Get get, uint64_t low, uint64_t high) {
  return Bounded(path, "a size such as 512MiB or 1GiB (units are B, KiB, MiB, GiB)", description, get, ParseSize,
                 FormatSize, low, high);
}

template <typename Get>
Setting Duration(std::string_view path, std::string_view description, Get get, milliseconds low, milliseconds high) {
  return Bounded(path, "a duration such as 100ms or 10m (units are ms, s, m, h)", description, get, ParseDuration,
                 FormatDuration, low, high);
}

// A whole number; `get` may lead to an optional one, which then may be "auto".
template <typename Get>
Setting Whole(std::string_view path, std::string_view description, Get get, int low, int high) {
  constexpr bool kOptional = !std::is_same_v<std::remove_cvref_t<decltype(get(std::declval<Config&>()))>, int>;
  const std::string expected = (kOptional ? "auto or a whole number from " : "a whole number from ") +
                               std::to_string(low) + " to " + std::to_string(high);
  Setting setting{path, expected, description, {}, {}};
  setting.set = [=](const ConfigValue& value, Config& config, ProblemList& problems) {
    const auto text = ScalarText(value);
    if constexpr (kOptional) {
      if (text == "auto") return get(config).reset();
    }
    const auto number = text ? ParseWhole(*text) : std::nullopt;
    if (!number || *number < low || *number > high) return problems.Expected(value, expected);
    get(config) = static_cast<int>(*number);
  };
  setting.print = [get](YAML::Emitter& out, const Config& config) {
    if constexpr (kOptional) {
      get(config) ? out << *get(config) : out << "auto";
    } else {
      out << get(config);
    }
  };
  return setting;
}

// One of some words. A word without a value is known, but this version cannot do it.
template <typename Value>
using Choices = std::vector<std::pair<std::string_view, std::optional<Value>>>;

template <typename Value, typename Get>
Setting Choice(std::string_view path, std::string_view description, Get get, Choices<Value> choices) {
  std::string expected;
  std::vector<std::string_view> words;
  for (const auto& [word, meaning] : choices) {
    if (meaning) words.push_back(word);
  }
  for (size_t i = 0; i < words.size(); ++i) {
    expected += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + std::string(words[i]);
  }
  Setting setting{path, expected, description, {}, {}};
  setting.set = [=](const ConfigValue& value, Config& config, ProblemList& problems) {
    const auto text = ScalarText(value);
    for (const auto& [word, meaning] : choices) {
      if (text != word) continue;
      if (!meaning) return problems.Unsupported(value, expected);
      get(config) = *meaning;
      return;
    }
    problems.Expected(value, expected);
  };
  setting.print = [=](YAML::Emitter& out, const Config& config) {
    for (const auto& [word, meaning] : choices) {
      if (meaning && *meaning == get(config)) out << std::string(word);
    }
  };
  return setting;
}

// One of some words, kept as it is.
template <typename Get>
Setting Word(std::string_view path, std::string_view description, Get get, std::vector<std::string_view> words,
             std::vector<std::string_view> unsupported = {}) {
  Choices<std::string> choices;
  for (const std::string_view word : words) choices.emplace_back(word, word);
  for (const std::string_view word : unsupported) choices.emplace_back(word, std::nullopt);
  return Choice<std::string>(path, description, get, std::move(choices));
}

// The field of a Config (const or not) at `member`.
#define FIELD(member) \
  [](auto& config) -> auto& { return config.member; }

Setting RocksDbOptions() {
  Setting setting = Text("state.rocksdb_options", "RocksDB's options as name=value;name=value",
                         "Options of RocksDB, passed on as they are.", FIELD(state.rocksdb_options), Anything);
  setting.set = [as_text = setting.set](const ConfigValue& value, Config& config, ProblemList& problems) {
    const Status known = CheckRocksDbOptions(ScalarText(value).value_or(""));
    if (!known.ok()) return problems.Refused(value, known.error());
    as_text(value, config, problems);
  };
  return setting;
}

std::vector<Setting> MakeSchema() {
  using enum RecordFormat;
  return {
      Text("application", "a name of 1 to 249 letters, digits, '.', '_' and '-'",
           "Consumer group, and prefix of transactional ids and of state.", FIELD(application), IsTopicName),
      Text("kafka.bootstrap_servers", "host:port, more of them behind commas",
           "The brokers to ask first. Without a protocol: that is `security.protocol` of `kafka.properties`.",
           FIELD(kafka.bootstrap_servers), IsBrokerList),
      PropertiesSetting(),
      Topic("source.topic", "Topic of the events.", FIELD(source.topic)),
      Choice<RecordFormat>("source.format", "How an event is written.", FIELD(source.decoder.format),
                           {{"json", kJson}, {"csv", kCsv}, {"tsv", kTsv}, {"protobuf", kProtobuf}}),
      FieldSetting("source.mapping.user_id", "Where the user's id is.", &EventMapping::user_id),
      FieldSetting("source.mapping.item_id", "Where the item's id is.", &EventMapping::item_id),
      FieldSetting("source.mapping.event_type", "Where the type of the event is; `view` where a record has none.",
                   &EventMapping::event_type),
      FieldSetting("source.mapping.timestamp", "Where the event time is, and its unit.", &EventMapping::timestamp),
      FieldSetting("source.mapping.event_id",
                   "Where the event's id is, by which duplicates are dropped; a record may have none.",
                   &EventMapping::event_id),
      Text("source.protobuf.descriptor_set", "a path, or nothing",
           "File of `protoc --include_imports --descriptor_set_out` that holds the message of an event. Nothing: "
           "freshet.v1.Event of docs/schemas/event.proto.",
           FIELD(source.decoder.protobuf.descriptor_set), Anything),
      Text("source.protobuf.message", "a message's full name such as shop.v1.Click, or nothing",
           "The message of an event, in the descriptor set.", FIELD(source.decoder.protobuf.message), Anything),
      Size("source.max_record", "A longer record is a dead letter.", FIELD(source.decoder.max_record_bytes), kKiB,
           16 * kMiB),
      Text("source.start", "earliest, latest or an ISO 8601 time such as 2024-05-01T12:00:00Z",
           "Where reading begins when there is no committed offset, and where a rebuild begins.", FIELD(source.start),
           IsStart),
      Choice<OffsetGapPolicy>(
          "source.on_offset_gap",
          "What to do when the input no longer holds the next event, or somebody moved the group's offset.",
          FIELD(source.on_offset_gap),
          {{"fail", OffsetGapPolicy::kFail},
           {"rebuild", OffsetGapPolicy::kRebuild},
           {"accept", OffsetGapPolicy::kAccept}}),
      Whole("recommend.top_k", "Items in a recommendation.", FIELD(recommend.top_k), 1, 10'000),
      Flag("recommend.exclude_seen", "Leave out items in the user's kept history.", FIELD(recommend.exclude_seen)),
      Topic("sink.topic", "Topic of the recommendations.", FIELD(sink.topic)),
      Word("sink.format", "How a recommendation is written.", FIELD(sink.format), {kJsonFormat, kProtobufFormat}),
      Whole("sink.protobuf.schema_id",
            "Id of recommendation.proto in the schema registry, for Confluent's wire format. 0: the message alone.",
            FIELD(sink.protobuf_schema_id), 0, std::numeric_limits<int>::max()),
      Flag("sink.include_user_vector", "Put the user's vector into the recommendation.",
           FIELD(sink.include_user_vector)),
      Topic("dead_letters.topic", "Topic of the records that are no events.", FIELD(dead_letters.topic)),
      Topic("items.topic", "Topic of the catalogue. Has no effect in this version.", FIELD(items.topic)),
      Text("items.file", "a path, or nothing",
           "File of the catalogue, instead of the topic: JSON Lines, an item a line. `run` takes the titles and "
           "categories "
           "that the dashboard and `/v1/items` show from it, at the start.",
           FIELD(items.file), Anything),
      Topic("snapshots.topic",
            "Topic of the state's snapshots, `<application>-snapshots` unless it is set; made where it is missing. "
            "`none`: no snapshots.",
            FIELD(snapshots.topic)),
      Duration("snapshots.interval", "A changed user is in a snapshot at the latest after this.",
               FIELD(snapshots.interval), milliseconds(1000), milliseconds(86'400'000)),
      Text("state.directory", "a path", "Where the state of the assigned partitions lies.", FIELD(state.directory),
           NotEmpty),
      Size("state.hot_cache", "Memory for users that are kept ready.", FIELD(state.hot_cache_bytes), kKiB, kTiB),
      Size("state.block_cache", "Memory for RocksDB's blocks, all partitions together.", FIELD(state.block_cache_bytes),
           kKiB, kTiB),
      Size("state.write_buffer", "Memory for what RocksDB has not yet written to its tables, all partitions together.",
           FIELD(state.write_buffer_bytes), kKiB, kTiB),
      Whole("state.history",
            "Events kept for each user; `auto` is what an exact rebuild of the model's cache needs, and no fewer than "
            "the directory keeps already.",
            FIELD(state.history), 1, 1'000'000),
      Whole("state.partitions", "Parts that the users of log files are spread over (a topic has its own partitions).",
            FIELD(state.partitions), 1, 1024),
      Duration("state.keep_lost",
               "How long the local state of a partition that went to another instance is kept for its return.",
               FIELD(state.keep_lost), milliseconds(1000), milliseconds(31'536'000'000)),
      RocksDbOptions(),
      Text("model.directory", "a path",
           "The model: config.json, model.safetensors, items.tsv, event_types.tsv. Where the default is not below the "
           "working directory, it is the demo model that is installed with the program. A symbolic link is followed "
           "when it "
           "changes while `run` runs.",
           FIELD(model.directory), NotEmpty),
      Word("model.precision",
           "Numbers that the catalogue is scored in. int8 finds the items that may be among the best, which are then "
           "scored in float32: the answers are the same, and large catalogues take less time and memory. `auto` is "
           "int8 where the processor (AVX-512 VNNI) and the number of items make it faster.",
           FIELD(model.precision), {"auto", "fp32", "int8"}, {"bf16"}),
      Choice<CachePrecision>(
          "model.cache_precision",
          "Numbers of the cached keys and values; fewer bits are more users in `state.hot_cache`, and a little less "
          "accuracy.",
          FIELD(model.cache_precision),
          {{"fp32", CachePrecision::kFp32}, {"fp16", CachePrecision::kFp16}, {"int8", CachePrecision::kInt8}}),
      Choice<Guarantee>("processing.guarantee", "What a crash may do to the recommendation topic.",
                        FIELD(processing.guarantee),
                        {{"exactly_once", Guarantee::kExactlyOnce}, {"at_least_once", Guarantee::kAtLeastOnce}}),
      Duration("processing.commit_interval",
               "Time between commits; with exactly_once also how long a recommendation may stay invisible.",
               FIELD(processing.commit_interval), milliseconds(1), milliseconds(600'000)),
      Whole("processing.max_batch", "Events in a micro-batch, at most.", FIELD(processing.max_batch), 1, 65'536),
      Whole("processing.workers", "Threads that the partitions are spread over; `auto` is one for each core.",
            FIELD(processing.workers), 1, 1024),
      Choice<Emit>("processing.emit", "A recommendation for every event, or one for each user and micro-batch.",
                   FIELD(processing.emit), {{"every", Emit::kEvery}, {"latest", Emit::kLatest}}),
      Text("http.listen", "host:port such as 127.0.0.1:8080, port 0 for any free one", "Address of the control plane.",
           FIELD(http.listen), IsHostAndPort),
      Text("http.advertise", "host:port, or nothing",
           "Where this instance of `run` is reached, for clients that ask another instance for a user of this one and "
           "are "
           "sent here. Nothing: they are told 404.",
           FIELD(http.advertise), IsAddressOrNothing),
      Text("http.tokens_file", "a path, or nothing",
           "File of bearer tokens, a line each: scopes (read, write, admin, commas between them), a space, the token. "
           "Mode 0600 or 0640. Where it is set, whoever asks for `/metrics` or `/v1` needs a token.",
           FIELD(http.tokens_file), Anything),
      Text("http.tls.certificate", "a path, or nothing",
           "PEM file of the certificate and the ones between it and its root: HTTPS, TLS 1.2 and later.",
           FIELD(http.tls_certificate), Anything),
      Text("http.tls.key", "a path, or nothing", "PEM file of the certificate's key. Mode 0600 or 0640.",
           FIELD(http.tls_key), Anything),
      Flag("http.allow_anonymous", "Listen where other machines can ask, without `http.tokens_file`, and take any `Host`.",
           FIELD(http.allow_anonymous)),
      Flag("http.allow_plaintext", "Listen where other machines can ask, without `http.tls`.",
           FIELD(http.allow_plaintext)),
      Text("serve.directory", "a path", "Where `serve` keeps the newest recommendation of each user.",
           FIELD(serve.directory), NotEmpty),
      Whole("serve.max_streams",
            "Clients of `serve` that are sent each new recommendation of a user, at most; each takes a connection. "
            "Beyond some 700 the limit of open files has to be above 1024.",
            FIELD(serve.max_streams), 0, 100'000),
      Word("log.level", "How much is logged.", FIELD(log.level), {"trace", "debug", "info", "warn", "error", "off"}),
      Word("log.format", "Log lines as text, or as one JSON object each.", FIELD(log.format), {"text", "json"}),
  };
}

#undef FIELD

}  // namespace

std::span<const Setting> ConfigSchema() {
  static const std::vector<Setting> schema = MakeSchema();
  return schema;
}

}  // namespace freshet
