#include "pipeline/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

class ConfigTest : public testing::Test {
 protected:
  // Loads `yaml` as the file freshet.yaml; the folder's name is taken out of the messages.
  ConfigResult LoadYaml(const std::string& yaml) {
    ConfigInput input;
    input.file = (directory_.path() / "freshet.yaml").string();
    std::ofstream(*input.file) << yaml;
    return Load(input);
  }
  ConfigResult Load(const ConfigInput& input) {
    ConfigResult result = LoadConfig(input);
    const std::string folder = directory_.path().string() + "/";
    for (std::string& line : result.problems.lines) {
      for (size_t at = line.find(folder); at != std::string::npos; at = line.find(folder))
        line.erase(at, folder.size());
    }
    return result;
  }
  static ConfigResult LoadSets(std::vector<std::string> sets) { return LoadConfig({{}, std::move(sets), {}}); }
  std::vector<std::string> ProblemsOf(const std::string& yaml) { return LoadYaml(yaml).problems.lines; }

  TemporaryDirectory directory_;
};

TEST_F(ConfigTest, NothingGivenIsTheDefaults) {
  const ConfigResult result = LoadConfig({});
  EXPECT_THAT(result.problems.lines, IsEmpty());
  EXPECT_EQ(PrintConfig(result.config), PrintConfig(Config()));
  EXPECT_EQ(result.config.state.partitions, 8);
  EXPECT_EQ(result.config.processing.workers, std::nullopt);
}

TEST_F(ConfigTest, EmptyFilesAndEmptySectionsChangeNothing) {
  for (const char* yaml : {"", "\n# only a comment\n", "---\n", "state:\nkafka:\n  properties:\n"}) {
    const ConfigResult result = LoadYaml(yaml);
    EXPECT_THAT(result.problems.lines, IsEmpty()) << yaml;
    EXPECT_EQ(PrintConfig(result.config), PrintConfig(Config())) << yaml;
  }
}

TEST_F(ConfigTest, EachLayerGoesOverTheOneBefore) {
  ConfigInput input;
  input.file = (directory_.path() / "freshet.yaml").string();
  std::ofstream(*input.file) << "application: file\nstate: {directory: file, hot_cache: 1MiB}\nlog: {level: debug}\n"
                             << "kafka: {properties: {client.id: file, client.rack: file, sasl.username: file}}\n";
  input.environment = {{"FRESHET_STATE__DIRECTORY", "environment"},
                       {"FRESHET_STATE__HOT_CACHE", "2MiB"},
                       {"freshet_kafka__properties__client__rack", "environment"},
                       {"FRESHET_KAFKA__PROPERTIES__SASL__USERNAME", "environment"}};
  input.sets = {"state.hot_cache=3MiB", "kafka.properties.sasl.username=set", "state.hot_cache=4MiB"};
  const ConfigResult result = Load(input);
  ASSERT_THAT(result.problems.lines, IsEmpty());
  EXPECT_EQ(result.config.application, "file");
  EXPECT_EQ(result.config.log.level, "debug");
  EXPECT_EQ(result.config.state.directory, "environment");
  EXPECT_EQ(result.config.state.hot_cache_bytes, size_t{4} << 20);
  EXPECT_EQ(result.config.state.block_cache_bytes, size_t{256} << 20);
  EXPECT_THAT(result.config.kafka.properties,
              ElementsAre(std::pair("client.id", "file"), std::pair("client.rack", "environment"),
                          std::pair("sasl.username", "set")));
}

TEST_F(ConfigTest, VariablesOfOthersAreLeftAlone) {
  const ConfigResult result = LoadConfig({{},
                                          {},
                                          {{"FRESHET", "/usr/bin/freshet"},
                                           {"FRESHET_HOME", "/opt"},
                                           {"FRESHET_OTHER__THING", "1"},
                                           {"FRESHET_TEST_SEED", "1"},
                                           {"FRESHET_TEST__STATE", "1"},
                                           {"STATE__DIRECTORY", "x"},
                                           {"FRESHET_APPLICATION", "mine"}}});
  EXPECT_THAT(result.problems.lines, IsEmpty());
  EXPECT_EQ(result.config.application, "mine");
}

TEST_F(ConfigTest, AVariableOfAKnownSectionMustBeAKnownKey) {
  const ConfigResult result = LoadConfig({{}, {}, {{"FRESHET_STATE__DIRECTRY", "x"}, {"FRESHET_LOG__LEVEL", "loud"}}});
  EXPECT_THAT(
      result.problems.lines,
      ElementsAre("log.level: \"loud\": expected trace, debug, info, warn, error or off; from FRESHET_LOG__LEVEL",
                  "state.directry: unknown key, the nearest known one is state.directory; from "
                  "FRESHET_STATE__DIRECTRY"));
}

TEST_F(ConfigTest, SetsTakeYaml) {
  const ConfigResult result =
      LoadSets({"source.mapping.user_id=/user", "source.mapping.timestamp={path: timestamp, unit: s}",
                "source.mapping.event_type={map: {pv: view, buy: purchase}, path: /type}",
                "source.mapping.event_type.map.fav=like",
                "source.mapping.event_id.constant=", "kafka.properties.session.timeout.ms=6000",
                "state.rocksdb_options=", "processing={max_batch: 7, workers: 3}", "model.directory=\"a b\""});
  ASSERT_THAT(result.problems.lines, IsEmpty());
  const EventMapping& mapping = result.config.source.decoder.mapping;
  EXPECT_EQ(mapping.user_id.path, "/user");
  EXPECT_EQ(mapping.timestamp.path, "/timestamp");  // a bare name is a member of the record
  EXPECT_EQ(mapping.timestamp_unit, TimeUnit::kSeconds);
  EXPECT_EQ(mapping.event_type.path, "/type");
  EXPECT_THAT(mapping.event_type.values,
              ElementsAre(std::pair("buy", "purchase"), std::pair("fav", "like"), std::pair("pv", "view")));
  EXPECT_EQ(mapping.event_id.constant, "");
  EXPECT_THAT(result.config.kafka.properties, ElementsAre(std::pair("session.timeout.ms", "6000")));
  EXPECT_EQ(result.config.processing.max_batch, 7);
  EXPECT_EQ(result.config.processing.workers, 3);
  EXPECT_EQ(result.config.model.directory, "a b");
}

TEST_F(ConfigTest, AFieldGivenWholeForgetsTheLayerBelowAndAPartOfItDoesNot) {
  const std::string yaml = "source: {mapping: {timestamp: {path: /t, unit: us}, event_type: {constant: view}}}";
  ConfigInput input;
  input.file = (directory_.path() / "freshet.yaml").string();
  std::ofstream(*input.file) << yaml;
  input.sets = {"source.mapping.timestamp.path=/at", "source.mapping.event_type=/type"};
  const EventMapping part = Load(input).config.source.decoder.mapping;
  EXPECT_EQ(part.timestamp.path, "/at");
  EXPECT_EQ(part.timestamp_unit, TimeUnit::kMicroseconds);
  EXPECT_EQ(part.event_type.path, "/type");
  EXPECT_EQ(part.event_type.constant, std::nullopt);
  input.sets = {"source.mapping.timestamp=/at"};
  EXPECT_EQ(Load(input).config.source.decoder.mapping.timestamp_unit, TimeUnit::kMilliseconds);
}

TEST_F(ConfigTest, ColumnsMayBeNamedOrNumbered) {
  const ConfigResult result = LoadYaml(
      "source:\n  format: csv\n  mapping: {user_id: 0, item_id: click_article_id, event_type: {constant: view}}\n");
  ASSERT_THAT(result.problems.lines, IsEmpty());
  EXPECT_EQ(result.config.source.decoder.mapping.user_id.path, "0");
  EXPECT_EQ(result.config.source.decoder.mapping.item_id.path, "click_article_id");
}

TEST_F(ConfigTest, EveryProblemIsToldAtOnceWithItsLine) {
  EXPECT_THAT(
      ProblemsOf("stat:\n  directory: x\n"
                 "state:\n  hot_cahce: 1\n  hot_cache: 1GB\n"
                 "recommend: {top_k: [1, 2]}\n"
                 "http: 8080\n"
                 "processing:\n  guarantee: twice\n  commit_interval: 100\n  workers: 0\n"),
      ElementsAre("stat: unknown key, the nearest known one is state; from freshet.yaml:2",
                  "state.hot_cahce: unknown key, the nearest known one is state.hot_cache; from freshet.yaml:4",
                  "state.hot_cache: \"1GB\": expected a size such as 512MiB or 1GiB (units are B, KiB, MiB, "
                  "GiB); from freshet.yaml:5",
                  "recommend.top_k: a list: expected a whole number from 1 to 10000; from freshet.yaml:6",
                  "http: \"8080\": expected a map of settings; from freshet.yaml:7",
                  "processing.guarantee: \"twice\": expected exactly_once or at_least_once; from "
                  "freshet.yaml:9",
                  "processing.commit_interval: \"100\": expected a duration such as 100ms or 10m (units are ms, "
                  "s, m, h); from freshet.yaml:10",
                  "processing.workers: \"0\": expected auto or a whole number from 1 to 1024; from "
                  "freshet.yaml:11"));
}

struct BadValue {
  const char* set;
  const char* problem;
};

class ConfigBadValueTest : public testing::TestWithParam<BadValue> {};

TEST_P(ConfigBadValueTest, IsToldWithWhatWasExpected) {
  EXPECT_THAT(LoadConfig({{}, {GetParam().set}, {}}).problems.lines, ElementsAre(GetParam().problem));
}

constexpr char kTopic[] = "expected a topic name (1 to 249 letters, digits, '.', '_' and '-'); from --set";

INSTANTIATE_TEST_SUITE_P(
    All, ConfigBadValueTest,
    testing::Values(
        BadValue{"state.hot_cache=1GB",
                 "state.hot_cache: \"1GB\": expected a size such as 512MiB or 1GiB (units are B, KiB, MiB, GiB); from "
                 "--set"},
        BadValue{"state.hot_cache=1B", "state.hot_cache: \"1B\": expected from 1KiB to 1024GiB; from --set"},
        BadValue{"source.max_record=17MiB", "source.max_record: \"17MiB\": expected from 1KiB to 16MiB; from --set"},
        BadValue{"processing.commit_interval=2h",
                 "processing.commit_interval: \"2h\": expected from 1ms to 10m; from --set"},
        BadValue{"processing.max_batch=65537",
                 "processing.max_batch: \"65537\": expected a whole number from 1 to 65536; from --set"},
        BadValue{"recommend.top_k=1e3",
                 "recommend.top_k: \"1e3\": expected a whole number from 1 to 10000; from --set"},
        BadValue{"recommend.top_k=99999999999999999999",
                 "recommend.top_k: \"99999999999999999999\": expected a whole number from 1 to 10000; from --set"},
        BadValue{"state.history=all",
                 "state.history: \"all\": expected auto or a whole number from 1 to 1000000; from --set"},
        BadValue{"state.partitions=", "state.partitions: nothing: expected a whole number from 1 to 1024; from --set"},
        BadValue{"recommend.exclude_seen=yes", "recommend.exclude_seen: \"yes\": expected true or false; from --set"},
        BadValue{"application=a/b",
                 "application: \"a/b\": expected a name of 1 to 249 letters, digits, '.', '_' and '-'; from --set"},
        BadValue{"http.listen=8080",
                 "http.listen: \"8080\": expected host:port such as 127.0.0.1:8080, port 0 for any free one; from "
                 "--set"},
        BadValue{"source.start=yesterday",
                 "source.start: \"yesterday\": expected earliest, latest or an ISO 8601 time such as "
                 "2024-05-01T12:00:00Z; from --set"},
        BadValue{"source.on_offset_gap=ignore",
                 "source.on_offset_gap: \"ignore\": expected fail, rebuild or accept; from --set"},
        BadValue{"source.format=xml", "source.format: \"xml\": expected json, csv, tsv or protobuf; from --set"},
        BadValue{"source.format=avro", "source.format: \"avro\": expected json, csv, tsv or protobuf; from --set"},
        BadValue{"sink.format=avro", "sink.format: \"avro\": expected json or protobuf; from --set"},
        BadValue{"model.precision=bf16",
                 "model.precision: \"bf16\": not supported by this version, expected auto, fp32 or int8; from --set"},
        BadValue{"model.cache_precision=bf16",
                 "model.cache_precision: \"bf16\": expected fp32, fp16 or int8; from --set"},
        BadValue{"processing.emit=final", "processing.emit: \"final\": expected every or latest; from --set"},
        BadValue{"model.directory=", "model.directory: nothing: expected a path; from --set"},
        BadValue{"model.directory={a: b}", "model.directory: a map: expected a path; from --set"},
        BadValue{"sink.topic=freshet.events",
                 "sink.topic: \"freshet.events\": expected another topic than source.topic; from --set"},
        BadValue{"dead_letters={topic: freshet.events}",
                 "dead_letters.topic: \"freshet.events\": expected another topic than source.topic; from --set"},
        BadValue{"kafka.bootstrap_servers=localhost",
                 "kafka.bootstrap_servers: \"localhost\": expected host:port, more of them behind commas; from --set"},
        BadValue{"kafka.bootstrap_servers=,",
                 "kafka.bootstrap_servers: \",\": expected YAML, perhaps in quotes (a value cannot begin here); from "
                 "--set"},
        BadValue{"kafka.bootstrap_servers=\",\"",
                 "kafka.bootstrap_servers: \",\": expected host:port, more of them behind commas; from --set"},
        BadValue{"kafka.bootstrap_servers=,127.0.0.1:9092",
                 "kafka.bootstrap_servers: \",127.0.0.1:9092\": expected YAML, perhaps in quotes (a value cannot begin "
                 "here); from --set"},
        BadValue{"state.directory=\"a\" \"b\"",
                 "state.directory: \"\"a\" \"b\"\": expected YAML, perhaps in quotes (found more than one value); from "
                 "--set"},
        BadValue{"kafka.properties=5", "kafka.properties: \"5\": expected a map of librdkafka properties; from --set"},
        BadValue{"kafka.properties.=5",
                 "kafka.properties.: \"5\": expected the name of a librdkafka property before its value; from --set"},
        BadValue{"kafka.properties={\"\": 5}",
                 "kafka.properties.: \"5\": expected the name of a librdkafka property before its value; from --set"},
        BadValue{"source.mapping.item_id={constant: }",
                 "source.mapping.item_id.constant: nothing: expected the text that every event has here; from --set"},
        BadValue{"source.mapping.event_type.constant=''",
                 "source.mapping.event_type.constant: \"\": expected the text that every event has here; from --set"},
        BadValue{"source.mapping.item_id=user_id",
                 "source.mapping.item_id: \"/user_id\": expected another place than source.mapping.user_id's; from "
                 "--set"},
        BadValue{"source={format: csv, mapping: {user_id: id, timestamp: {path: /id, unit: s}}}",
                 "source.mapping.timestamp: \"/id\": expected another place than source.mapping.user_id's; from --set"},
        BadValue{"source.mapping.event_id=/item_id",
                 "source.mapping.event_id: \"/item_id\": expected another place than source.mapping.item_id's; from "
                 "--set"},
        BadValue{"kafka.properties.a=[1]",
                 "kafka.properties.a: a list: expected the text of a librdkafka property; from --set"},
        BadValue{"source.mapping.user_id=[a]",
                 "source.mapping.user_id: a list: expected a JSON pointer, a column, or a map of path, constant, map "
                 "and unit; from --set"},
        BadValue{"source.mapping.user_id={pth: /a}",
                 "source.mapping.user_id.pth: unknown key, the nearest known one is source.mapping.user_id.path; "
                 "from --set"},
        BadValue{"source.mapping.user_id={unit: s}",
                 "source.mapping.user_id.unit: unknown key, the nearest known one is source.mapping.user_id.path; "
                 "from --set"},
        BadValue{"source.mapping.event_id.constant=all",
                 "source.mapping.event_id: \"all\": expected a path, or the constant \"\" for none: with one id for "
                 "all, all but a user's first event are duplicates; from --set"},
        BadValue{"source.mapping.event_type={path: /a, constant: b}",
                 "source.mapping.event_type: a map: expected path or constant, not both; from --set"},
        BadValue{"source.mapping.timestamp.unit=ns",
                 "source.mapping.timestamp.unit: \"ns\": expected s, ms, us or iso8601; from --set"},
        BadValue{"source.mapping.event_type.map=pv",
                 "source.mapping.event_type.map: \"pv\": expected a map such as {pv: view, buy: purchase}; from --set"},
        BadValue{"source.mapping.user_id=a/b",
                 "source.mapping.user_id: \"a/b\": expected a JSON pointer such as /user_id (source.format is json); "
                 "from --set"},
        BadValue{"state.top_k=5", "state.top_k: unknown key, the nearest known one is recommend.top_k; from --set"},
        BadValue{"state.dir=x", "state.dir: unknown key, the nearest known one is state.directory; from --set"},
        BadValue{"http={port: 8080}", "http.port: unknown key, the nearest known one is http.tls; from --set"},
        BadValue{"log.lvl=info", "log.lvl: unknown key, the nearest known one is log.level; from --set"},
        BadValue{"source.maping={}", "source.maping: unknown key, the nearest known one is source.mapping; from --set"},
        BadValue{"source.mapping.user=/u",
                 "source.mapping.user: unknown key, the nearest known one is source.mapping.user_id; from --set"},
        BadValue{"recomend={top_k: 5}", "recomend: unknown key, the nearest known one is recommend; from --set"},
        BadValue{"state={directory: a, directory: b}", "state.directory: given twice, expected once; from --set"},
        BadValue{"state.directory", "--set: \"state.directory\": expected key.path=value"},
        BadValue{"=x", "--set: \"=x\": expected key.path=value"}));

TEST_F(ConfigTest, WhatIsPassedOnIsCheckedByWhomItIsPassedTo) {
  const std::vector<std::string> problems = ProblemsOf(R"(
kafka:
  properties:
    session.timout.ms: 6000
    session.timeout.ms: soon
    security.protocol: carrier_pigeon
    enable.auto.commit: true
    group.id: mine
    sasl.username: me
    acks: all
    fetch.max.bytes: -1
state: {rocksdb_options: "max_open_files=many"}
)");
  EXPECT_THAT(
      problems,
      ElementsAre(AllOf(StartsWith("kafka.properties.session.timout.ms: No such configuration property"),
                        EndsWith("; from freshet.yaml:4")),
                  AllOf(StartsWith("kafka.properties.session.timeout.ms: Invalid value"), EndsWith(":5")),
                  AllOf(StartsWith("kafka.properties.security.protocol: Invalid value"), EndsWith(":6")),
                  AllOf(StartsWith("kafka.properties.enable.auto.commit: freshet decides this itself"), EndsWith(":7")),
                  AllOf(StartsWith("kafka.properties.group.id: freshet decides this itself"), EndsWith(":8")),
                  AllOf(StartsWith("kafka.properties.fetch.max.bytes: "), Not(HasSubstr("\n")), EndsWith(":11")),
                  AllOf(StartsWith("state.rocksdb_options: \"max_open_files=many\": expected RocksDB's"),
                        HasSubstr("max_open_files"), EndsWith("; from freshet.yaml:12"))));
  EXPECT_THAT(LoadSets({"state.rocksdb_options=no_such_option=1"}).problems.lines,
              ElementsAre(AllOf(HasSubstr("no_such_option"), EndsWith("; from --set"))));
  EXPECT_THAT(LoadSets({"state.rocksdb_options={a: 1}"}).problems.lines,
              ElementsAre("state.rocksdb_options: a map: expected RocksDB's options as name=value;name=value; from "
                          "--set"));
}

TEST_F(ConfigTest, TopicsAreCheckedAsKafkaDoes) {
  for (const char* key : {"source.topic", "sink.topic", "dead_letters.topic", "items.topic", "snapshots.topic"}) {
    EXPECT_THAT(LoadSets({std::string(key) + "=a b"}).problems.lines,
                ElementsAre(std::string(key) + ": \"a b\": " + kTopic));
  }
}

TEST_F(ConfigTest, AnApplicationLeavesRoomForTheTopicThatIsNamedAfterIt) {
  const std::string longest(239, 'a');
  EXPECT_THAT(LoadSets({"application=" + longest}).problems.lines, IsEmpty());
  EXPECT_THAT(LoadSets({"application=" + longest + "b"}).problems.lines,
              ElementsAre("application: \"" + longest +
                          "b\": expected at most 239 characters where snapshots.topic is not set; from --set"));
  EXPECT_THAT(LoadSets({"application=" + longest + "b", "snapshots.topic=none"}).problems.lines, IsEmpty());
}

TEST_F(ConfigTest, LongValuesAreCutBetweenCharacters) {
  std::string value(79, 'x');
  value += "ééé";
  EXPECT_THAT(LoadSets({"recommend.top_k=" + value}).problems.lines,
              ElementsAre("recommend.top_k: \"" + std::string(79, 'x') +
                          "…\": expected a whole number from 1 to 10000; from --set"));
}

TEST_F(ConfigTest, RepeatedKeysAreTold) {
  EXPECT_THAT(ProblemsOf("state: {directory: a}\nlog: {level: info}\nstate: {hot_cache: 1MiB}\n"),
              ElementsAre("state: given twice, expected once; from freshet.yaml:3"));
  EXPECT_THAT(ProblemsOf("state:\n  directory: a\n  directory: b\n"),
              ElementsAre("state.directory: given twice, expected once; from freshet.yaml:3"));
  EXPECT_THAT(ProblemsOf("state.directory: a\nstate:\n  directory: b\n"),
              ElementsAre("state.directory: given twice, expected once; from freshet.yaml:3"));
  EXPECT_THAT(ProblemsOf("kafka: {properties: {client.id: a}}\nkafka.properties.client.id: b\n"),
              ElementsAre("kafka.properties.client.id: given twice, expected once; from freshet.yaml:2"));
  EXPECT_THAT(ProblemsOf("state.directory: a\nstate: {partitions: 3}\n"), IsEmpty());
}

TEST_F(ConfigTest, AnAliasThatLeadsBackToItselfEnds) {
  EXPECT_THAT(ProblemsOf("state: &s\n  directory: *s\n"),
              ElementsAre("state.directory: a map: expected a path; from freshet.yaml:1"));
}

TEST_F(ConfigTest, DocumentsThatAreNoMaps) {
  EXPECT_THAT(ProblemsOf("- a\n- b\n"),
              ElementsAre("freshet.yaml: a list: expected a map of settings; from freshet.yaml:1"));
  EXPECT_THAT(ProblemsOf("\n\njust text\n"),
              ElementsAre("freshet.yaml: \"just text\": expected a map of settings; from freshet.yaml:3"));
  EXPECT_THAT(ProblemsOf("a: 1\n---\nb: 2\n"), ElementsAre("freshet.yaml: 2 YAML documents: expected one; from -c"));
}

TEST_F(ConfigTest, SyntaxErrorsNameTheLine) {
  EXPECT_THAT(ProblemsOf("application: a\nstate: [a\n"),
              ElementsAre("freshet.yaml:3: not YAML: end of sequence flow not found (column 1)"));
  EXPECT_THAT(ProblemsOf("application: a\n--- \n, b\n"),
              ElementsAre("freshet.yaml:3: not YAML: a value cannot begin here (column 1)"));
  EXPECT_THAT(ProblemsOf("state:\n\tdirectory: a\n"), ElementsAre(HasSubstr("freshet.yaml:2: not YAML: ")));
  EXPECT_THAT(ProblemsOf("state:\n  directory: \"a\nhttp: {}\n"),
              ElementsAre("freshet.yaml: not YAML: a quote is not closed"));
  EXPECT_THAT(LoadSets({"model.directory='a"}).problems.lines,
              ElementsAre(StartsWith("model.directory: \"'a\": expected YAML, perhaps in quotes (")));
  EXPECT_THAT(LoadSets({"state={a"}).problems.lines,
              ElementsAre(StartsWith("state: \"{a\": expected YAML, perhaps in quotes (")));
}

TEST_F(ConfigTest, UnreadableFilesNameTheReason) {
  const std::string missing = (directory_.path() / "missing.yaml").string();
  EXPECT_THAT(Load({missing, {}, {}}).problems.lines,
              ElementsAre("missing.yaml: cannot be read: No such file or directory; from -c"));
  std::filesystem::create_directory(directory_.path() / "folder");
  EXPECT_THAT(Load({(directory_.path() / "folder").string(), {}, {}}).problems.lines,
              ElementsAre("folder: cannot be read: Is a directory; from -c"));
}

TEST_F(ConfigTest, WhatIsPrintedLoadsToTheSame) {
  const ConfigResult changed = LoadYaml(R"(
application: shop
kafka: {bootstrap_servers: "a:1,b:2", properties: {session.timeout.ms: 6000, client.rack: "null", sasl.username: ": #"}}
source:
  topic: t
  format: tsv
  mapping:
    user_id: "3"
    event_type: {path: behaviour, map: {pv: view, "a: b": "c, d", "": "}"}}
    timestamp: {path: ts, unit: iso8601}
    event_id: {constant: ""}
  max_record: 2KiB
  start: 2024-05-01T12:00:00Z
  on_offset_gap: rebuild
recommend: {top_k: 7, exclude_seen: false}
sink: {topic: r, include_user_vector: true}
dead_letters: {topic: d}
items: {file: items.jsonl}
snapshots: {topic: s, interval: 90s}
state: {directory: "a: b", hot_cache: 1025KiB, history: 200, partitions: 3, rocksdb_options: "max_open_files=9;block_based_table_factory={block_size=8192}"}
model: {precision: int8}
processing: {guarantee: at_least_once, commit_interval: 1500ms, workers: 4, emit: latest}
http: {listen: "[::1]:0"}
log: {level: off, format: json}
)");
  ASSERT_THAT(changed.problems.lines, IsEmpty());
  const std::string printed = PrintConfig(changed.config);
  const ConfigResult again = LoadYaml(printed);
  EXPECT_THAT(again.problems.lines, IsEmpty()) << printed;
  EXPECT_EQ(PrintConfig(again.config), printed);
  EXPECT_EQ(again.config.kafka.properties, changed.config.kafka.properties);
  EXPECT_EQ(again.config.source.decoder.mapping.event_type.values.at("a: b"), "c, d");
  EXPECT_EQ(again.config.source.decoder.mapping.event_id.constant, "");
  EXPECT_EQ(again.config.snapshots.interval, std::chrono::seconds(90));
  EXPECT_EQ(again.config.log.level, "off");
}

TEST_F(ConfigTest, SecretsAreNeitherPrintedNorTold) {
  const ConfigResult result = LoadSets({"kafka.properties.sasl.password=hunter2", "kafka.properties.sasl.username=me",
                                        "kafka.properties.ssl.key.password={hunter2"});
  EXPECT_THAT(result.problems.lines, ElementsAre(StartsWith("kafka.properties.ssl.key.password: ********: ")));
  const std::string printed = PrintConfig(result.config);
  EXPECT_THAT(printed, HasSubstr("sasl.password: \"********\""));
  EXPECT_THAT(printed, HasSubstr("sasl.username: me"));
  EXPECT_THAT(printed, Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace freshet
