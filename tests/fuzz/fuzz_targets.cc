#include "tests/fuzz/fuzz_targets.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "inference/checkpoint.h"
#include "inference/model_config.h"
#include "inference/model_files.h"
#include "inference/unpickler.h"
#include "ingest/decoder.h"
#include "ingest/encoder.h"
#include "ingest/event_fields.h"
#include "ingest/line_reader.h"
#include "ingest/timestamp.h"
#include "state/codec.h"
#include "state/snapshot.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using namespace std::string_view_literals;

void CheckId(std::string_view id) {
  Require(id.size() <= DecoderOptions().max_id_bytes, "ids are not over-long");
  Require(id.find('\0') == std::string_view::npos, "ids hold no NUL");
  Require(IsValidUtf8(id), "ids are UTF-8");
}

void CheckResult(const std::variant<Event, DecodeFailure>& result, const RawRecord& record) {
  if (const auto* const event = std::get_if<Event>(&result)) {
    Require(!event->user_id.empty() && !event->item_id.empty() && !event->event_type.empty(), "an event has its ids");
    CheckId(event->user_id);
    CheckId(event->item_id);
    CheckId(event->event_type);
    CheckId(event->event_id);
    Require(event->timestamp_ms >= 0 && event->timestamp_ms < kEndOfTimeMs, "times are in range");
    return;
  }
  const DecodeFailure& failure = std::get<DecodeFailure>(result);
  Require(!failure.code.empty() && !failure.message.empty(), "a failure says why");
  Require(IsValidUtf8(failure.message), "messages are UTF-8");
  std::string letter;
  EncodeDeadLetter(MakeDeadLetter(record, failure), letter);
  Require(IsValidUtf8(letter), "dead letters are UTF-8");
}

void Decode(EventDecoder& decoder, std::string_view header, std::string_view value) {
  static Arena arena;  // as in a program: blocks are big
  arena.Reset();
  RawRecord record;
  record.header = header;
  record.value = arena.Copy(value);
  CheckResult(decoder.Decode(record, arena), record);
}

std::unique_ptr<EventDecoder> Make(RecordFormat format, bool nested) {
  DecoderOptions options;
  options.format = format;
  if (nested) {
    options.mapping.user_id.path = "/u/0/id";
    options.mapping.item_id = {"/u/1", {}, {{"a", "b"}}};
    options.mapping.event_type.constant = "view";
    options.mapping.timestamp_unit = TimeUnit::kIso8601;
  }
  return MakeDecoder(options).value();
}

void JsonDecoder(std::string_view bytes) {
  static const auto flat = Make(RecordFormat::kJson, false);
  static const auto nested = Make(RecordFormat::kJson, true);
  Decode(*flat, {}, bytes);
  Decode(*nested, {}, bytes);
}

void ProtobufDecoder(std::string_view bytes) {
  static const auto decoder = Make(RecordFormat::kProtobuf, false);
  Decode(*decoder, {}, bytes);
}

// Also what `freshet serve` reads.
void ProtobufRecommendation(std::string_view bytes) {
  std::string json;
  Require(RecommendationToJson(bytes, json) || json.empty(), "nothing is made of what is none");
}

void DelimitedDecoder(std::string_view bytes) {
  static const auto csv = Make(RecordFormat::kCsv, false);
  static const auto tsv = Make(RecordFormat::kTsv, false);
  const std::string_view header = bytes.substr(0, bytes.find('\n'));
  const std::string_view row = header.size() == bytes.size() ? ""sv : bytes.substr(header.size() + 1);
  for (const auto* const decoder : {csv.get(), tsv.get()}) {
    const Status status = decoder->CheckHeader(header);
    Require(status.ok() || !status.error().message().empty(), "an error says why");
  }
  Decode(*csv, header, row);
  Decode(*tsv, header, row);
}

void Timestamp(std::string_view bytes) {
  for (const TimeUnit unit : {TimeUnit::kSeconds, TimeUnit::kMilliseconds, TimeUnit::kMicroseconds}) {
    Require(ParseEpochMs(bytes, unit).value_or(0) >= -1, "what is negative is -1");
  }
  const auto time = ParseIso8601Ms(bytes);
  Require(!time || (bytes.size() >= 10 && bytes[4] == '-'), "a time begins with its date");
}

// The file's lines, by the rules of line_reader.h, from its uncompressed bytes.
void LogLines(std::string_view bytes) {
  constexpr size_t kKeep = 64;
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("freshet-fuzz-" + std::to_string(getpid()))).string();
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  Require(file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size(), "a temporary file");
  std::fclose(file);
  auto stream = ByteStream::Open(path);
  unlink(path.c_str());
  if (!stream.ok()) {
    const auto begins = [&](std::string_view magic) { return bytes.starts_with(magic); };
    const bool known = begins("PK\x03\x04") || begins("BZh") || begins("\xfd\x37zX") || begins("\x04\x22\x4d\x18");
    return Require(known, "any bytes are a file, but those of another compression");
  }
  LineReader reader(std::move(stream).value(), kKeep);
  Line line;
  bool damaged = false;
  for (;;) {
    const auto any = reader.Next(line);
    Require(any.ok(), "bad bytes are no error");
    if (!*any) break;
    Require(!damaged, "nothing follows the damage");
    damaged = !line.damage.empty();
    Require(line.text.size() <= kKeep || line.oversize_bytes == 0, "long lines are cut");
    Require(line.oversize_bytes == 0 || line.oversize_bytes > static_cast<int64_t>(kKeep), "only long lines are cut");
    Require(line.text.find('\n') == std::string_view::npos, "a line holds no line end");
    Require(!line.text.empty() || damaged, "an empty line is none");
  }
}

// A line with the key, and behind it the value.
void SnapshotRecord(std::string_view bytes) {
  const std::string_view key = bytes.substr(0, bytes.find('\n'));
  const std::string_view value = key.size() == bytes.size() ? ""sv : bytes.substr(key.size() + 1);
  const auto decoded = DecodeSnapshot(key, value);
  Require(decoded.ok() ? EncodeSnapshot(key, *decoded) == value : !decoded.error().message().empty(),
          "a record is damaged or what was encoded");
  const std::string encoded = EncodeSnapshot(key, value);
  const auto again = DecodeSnapshot(key, encoded);
  Require(again.ok() && *again == value, "what was encoded comes back");
  const auto watermark = DecodeWatermark(value);
  Require(!watermark.ok() || EncodeWatermark(*watermark) == value, "a watermark is refused or what was encoded");
}

// Bytes of a user as they are stored, and two deltas of one merged.
void StoredUser(std::string_view bytes) {
  constexpr size_t kHistory = 7;
  constexpr int64_t kMost = int64_t{1} << 62;  // of what is counted; no event follows there
  const std::string_view first = bytes.substr(0, bytes.empty() ? 0 : static_cast<uint8_t>(bytes[0]) % bytes.size());
  const std::array<std::string_view, 2> deltas = {first, bytes.substr(first.size())};
  for (const std::string& stored : {std::string(bytes), MergeDeltas(deltas, kHistory)}) {
    UserState user("fuzz", kHistory);
    if (const Status status = StateCodec::Decode(stored, user); !status.ok()) {
      Require(!status.error().message().empty(), "an error says why");
      continue;
    }
    if (Raw(user.applied_offset()) >= kMost || user.profile().events >= kMost) continue;
    user.Append(Token{}, Next(user.applied_offset()), kUnknownItem);
    std::string encoded;
    StateCodec::EncodeAll(user, encoded);
    UserState again("fuzz", kHistory);
    Require(StateCodec::Decode(encoded, again).ok(), "what was encoded comes back");
    Require(again.tokens().size() == user.tokens().size() && again.applied_offset() == user.applied_offset(),
            "as it was");
  }
  const auto position = DecodePosition(bytes);
  Require(!position.ok() || EncodePosition(*position) == bytes, "a position is refused or what was encoded");
}

void ModelConfigFile(std::string_view bytes) {
  const auto config = ParseModelConfig(bytes);
  if (!config.ok()) return Require(!config.error().message().empty(), "an error says why");
  const std::string text = ModelConfigText(*config);
  const auto again = ParseModelConfig(text);
  Require(again.ok() && ModelConfigText(*again) == text, "what was written comes back");
}

void Checkpoint(std::string_view bytes) {
  const auto tensors = ParseCheckpoint(bytes);
  if (!tensors.ok()) return Require(!tensors.error().message().empty(), "an error says why");
  size_t values = 0;
  for (const CheckpointTensor& tensor : *tensors) values += tensor.values.size();
  Require(values <= bytes.size(), "no more is made than there is");
}

void Pickle(std::string_view bytes) {
  const auto tensors = UnpickleStateDict(bytes);
  if (!tensors.ok()) return Require(!tensors.error().message().empty(), "an error says why");
  size_t names = 0;
  for (const PickledTensor& tensor : *tensors) {
    Require(tensor.name.size() <= 1000 && tensor.shape.size() <= 8, "names and shapes are short");
    names += tensor.name.size();
  }
  Require(names <= bytes.size(), "no name is there more often than in the pickle");
}

// Items in float32, in int8 (other matrices in int8 and bfloat16), and as codes. "0000" is a small float32 above 0.
constexpr std::string_view kModelSeeds[] = {
    R"({"item_embedding.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
    R"("type_embedding.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[16,24]},)"
    R"("layers.0.uvqk.weight":{"dtype":"F32","shape":[2,8],"data_offsets":[24,88]},)"
    R"("layers.0.out.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[88,104]},)"
    R"("layers.0.out.bias":{"dtype":"F32","shape":[2],"data_offsets":[104,112]},)"
    R"("layers.0.bias_pos":{"dtype":"F32","shape":[1,1],"data_offsets":[112,116]}})"
    "\n00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"sv,
    R"({"item_embedding.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},)"
    R"("item_embedding.weight.scale":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
    R"("type_embedding.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[12,20]},)"
    R"("layers.0.uvqk.weight":{"dtype":"BF16","shape":[2,8],"data_offsets":[20,52]},)"
    R"("layers.0.out.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[52,56]},)"
    R"("layers.0.out.weight.scale":{"dtype":"F32","shape":[2],"data_offsets":[56,64]},)"
    R"("layers.0.out.bias":{"dtype":"F32","shape":[2],"data_offsets":[64,72]},)"
    R"("layers.0.bias_pos":{"dtype":"F32","shape":[1,1],"data_offsets":[72,76]}})"
    "\n0000000000000000000000000000000000000000000000000000000000000000000000000000"sv,
    R"({"item_embedding.codes":{"dtype":"U8","shape":[2,1],"data_offsets":[0,2]},)"
    R"("item_embedding.centroids":{"dtype":"F32","shape":[1,2,2],"data_offsets":[2,18]},)"
    R"("type_embedding.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[18,26]},)"
    R"("layers.0.uvqk.weight":{"dtype":"F32","shape":[2,8],"data_offsets":[26,90]},)"
    R"("layers.0.out.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[90,106]},)"
    R"("layers.0.out.bias":{"dtype":"F32","shape":[2],"data_offsets":[106,114]},)"
    R"("layers.0.bias_pos":{"dtype":"F32","shape":[1,1],"data_offsets":[114,118]}})"
    "\n\1\0"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"sv};

// A model directory without its weights.
std::unique_ptr<const TemporaryDirectory> SmallestModel() {
  auto directory = std::make_unique<const TemporaryDirectory>();
  WriteFile(
      directory->path() / kConfigFile,
      R"({"format": "freshet-hstu-1", "block": "hstu", "time_unit": "s", "items": 2, "event_types": 1, "dim": 2,)",
      R"("heads": 1, "layers": 1, "window": 1, "time_bias": false, "ln_eps": 1e-6, "norm_eps": 1e-6,)"
      R"("similarity": "dot"})");
  WriteFile(directory->path() / kTypesFile, "0\t[unknown]\n", "");
  WriteFile(directory->path() / kItemsFile, "0\t[unknown]\n1\ti1\n", "");
  return directory;
}

// The header of model.safetensors in a line, and behind it the tensors' bytes.
void WriteWeights(const std::filesystem::path& directory, std::string_view bytes) {
  const std::string_view header = bytes.substr(0, bytes.find('\n'));
  const uint64_t length = header.size();
  const std::string begin = std::string(reinterpret_cast<const char*>(&length), sizeof length) + std::string(header);
  WriteFile(directory / kWeightsFile, begin, bytes.substr(std::min(header.size() + 1, bytes.size())));
}

void ModelWeights(std::string_view bytes) {
  static const auto directory = SmallestModel();
  WriteWeights(directory->path(), bytes);
  const auto model = LoadModel(directory->path());
  if (!model.ok()) return Require(!model.error().message().empty(), "an error says why");
  Require((*model)->parameters == 4 + 2 + 16 + 4 + 2 + 1, "a model is whole");
  for (const std::vector<float>* const values : TensorStorage(**model)) {
    Require(std::all_of(values->begin(), values->end(), [](float value) { return std::isfinite(value); }),
            "weights are numbers");
  }
}

// event_types.tsv of one row, a NUL, and items.tsv of two.
void ModelTables(std::string_view bytes) {
  static const auto directory = [] {
    auto model = SmallestModel();
    WriteWeights(model->path(), kModelSeeds[0]);
    return model;
  }();
  const std::string_view types = bytes.substr(0, bytes.find('\0'));
  const std::string_view items = bytes.substr(std::min(types.size() + 1, bytes.size()));
  WriteFile(directory->path() / kTypesFile, types);
  WriteFile(directory->path() / kItemsFile, items);
  const auto model = LoadModel(directory->path());
  if (!model.ok()) return Require(!model.error().message().empty(), "an error says why");
  const auto matches = [](const std::vector<std::string>& ids, std::string_view file) {
    std::string text;
    for (size_t row = 0; row < ids.size(); ++row) text += std::to_string(row) + '\t' + ids[row] + '\n';
    return text == file;
  };
  Require(matches((*model)->vocabulary.type_names(), types), "the types are the file's");
  Require(matches((*model)->vocabulary.item_ids(), items), "the items are the file's");
}

constexpr std::string_view kJsonSeeds[] = {
    R"({"user_id":"u1","item_id":"i9","event_type":"view","timestamp":1506826800026,"event_id":"e","properties":{"a":[1,true,null,-2.5e3]}})"sv,
    R"({"user_id":12345678901234567890123,"item_id":-0,"timestamp":"1506826800026"})"sv,
    R"({"u":[{"id":1.50},"a\u00e9\ud83d\ude00\"\\"],"timestamp":"2017-10-01T03:00:00.026+02:00"})"sv,
    R"([{"a":"b\u0000"}])"sv};
constexpr std::string_view kDelimitedSeeds[] = {
    "user_id,item_id,timestamp,event_type\nu1,\"i \"\"9\"\",x\",1506826800026,view"sv,
    "user_id\titem_id\ttimestamp\nu1\ti9\t1506826800026"sv, "timestamp,\"user_id\",item_id\n1506826800026,,"sv};
// user_id u1, item_id i9, timestamp; the same in Confluent's wire format, with an unknown group before it.
constexpr std::string_view kProtobufSeeds[] = {
    "\x0a\x02u1\x12\x02i9\x20\x9a\xb8\xdb\xb4\xed\x2b"sv,
    "\0\0\0\0\x07\0\xfb\x01\x08\x01\xfc\x01\x0a\x02u1\x12\x02i9\x20\x9a\xb8\xdb\xb4\xed\x2b"sv,
    "\0\0\0\0\x07\x04\x02\0"sv};
constexpr std::string_view kRecommendationSeeds[] = {
    "\x0a\x02u1\x10\x07\x18\x01\x22\x06\x0a\x01m\x12\x01v\x2a\x03\x0a\x01t\x32\x09\x0a\x02i1\x15\0\0\x80\x3f\x3a\x04\0\0\x80\x3f"sv};
constexpr std::string_view kTimestampSeeds[] = {"1506826800.026"sv, "-1.5e12"sv, "2017-10-01T03:00:00.026+02:00"sv,
                                                "2016-12-31 23:59:60Z"sv};
constexpr std::string_view kLineSeeds[] = {
    "\xEF\xBB\xBF{\"a\":1}\r\n\n{\"b\":2}\n0123456789012345678901234567890123456789012345678901234567890123456789\nend"sv,
    "PK\003\004"sv,
    // gzip and zstd of "one\ntwo\n"
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcf\x4b\xe5\x2a\x29\xcf\xe7\x02\x00\xe6\x0b\xba\x12\x08\x00\x00\x00"sv,
    "\x28\xb5\x2f\xfd\x04\x58\x41\x00\x00\x6f\x6e\x65\x0a\x74\x77\x6f\x0a\xe6\xa6\x0e\x40"sv};

constexpr std::string_view kSnapshotSeeds[] = {
    "uab\n\x01\xaf\x8a\xd6\x3b"
    "cd"sv,
    "mwatermark\n\x67\x12\0\0\0\0\0\0freshet"sv};

// By the layout atop state/codec.cc: a user with one event that had an id; a position.
constexpr std::string_view kUserSeeds[] = {
    "\2"
    "\5\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0"
    "\7\0\0\0\0\0\0\0"
    "\7\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0"
    "\7\0\0\0\0\0\0\0"
    "\1\0\0\0\0\0\0\0"
    "\1"
    "itemhash"
    "type"
    "\7\0\0\0\0\0\0\0"
    "event id"sv,
    "\2"
    "\11\0\0\0\0\0\0\0"sv};
constexpr std::string_view kModelConfigSeeds[] = {
    R"({"format": "freshet-hstu-1", "block": "hstu", "time_unit": "s", "items": 2, "event_types": 1, "dim": 2,)"
    R"("heads": 1, "layers": 1, "window": 1, "time_bias": false, "ln_eps": 1e-6, "norm_eps": 1e-6,)"
    R"("similarity": "dot"})"sv};

// An archive of an empty dictionary, and the pickle of a state_dict of one tensor.
constexpr std::string_view kCheckpointSeeds[] = {
    "PK\003\004\024\000\000\000\000\000\000\000!\000=\267\336\211\004\000\000\000\004\000\000\000\012"
    "\000\000\000a/data.pkl\200\002}.PK\001\002\024\003\024\000\000\000\000\000\000\000!\000=\267\336"
    "\211\004\000\000\000\004\000\000\000\012\000\000\000\000\000\000\000\000\000\000\000\200\001\000"
    "\000\000\000a/data.pklPK\005\006\000\000\000\000\001\000\001\0008\000\000\000,\000\000\000\000\000"sv};
constexpr std::string_view kPickleSeeds[] = {
    "\200\002ccollections\012OrderedDict\012q\000)Rq\001X\001\000\000\000aq\002ctorch._utils\012_rebu"
    "ild_tensor_v2\012q\003((X\007\000\000\000storageq\004ctorch\012FloatStorage\012q\005X\001\000\000"
    "\0000q\006X\003\000\000\000cpuq\007K\001tq\010QK\000K\001\205q\011K\001\205q\012\211h\000)Rq\013"
    "tq\014Rq\015s}q\016X\011\000\000\000_metadataq\017h\000)Rq\020sb."sv};

constexpr std::string_view kTableSeeds[] = {
    "0\t[unknown]\n\0"
    "0\t[unknown]\n1\ti\u00e91\n"sv};

constexpr FuzzTarget kTargets[] = {{"json_decoder", JsonDecoder, kJsonSeeds},
                                   {"delimited_decoder", DelimitedDecoder, kDelimitedSeeds},
                                   {"protobuf_decoder", ProtobufDecoder, kProtobufSeeds},
                                   {"protobuf_recommendation", ProtobufRecommendation, kRecommendationSeeds},
                                   {"timestamp", Timestamp, kTimestampSeeds},
                                   {"log_lines", LogLines, kLineSeeds},
                                   {"snapshot_record", SnapshotRecord, kSnapshotSeeds},
                                   {"stored_user", StoredUser, kUserSeeds},
                                   {"checkpoint", Checkpoint, kCheckpointSeeds},
                                   {"pickle", Pickle, kPickleSeeds},
                                   {"model_config", ModelConfigFile, kModelConfigSeeds},
                                   {"model_weights", ModelWeights, kModelSeeds},
                                   {"model_tables", ModelTables, kTableSeeds}};

}  // namespace

std::span<const FuzzTarget> StreamTargets() { return kTargets; }

}  // namespace freshet
