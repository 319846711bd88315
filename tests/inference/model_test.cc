#include "inference/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "core/hash.h"
#include "inference/safetensors.h"
#include "tests/inference/load_model_test.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST_F(LoadModelTest, ReadsBackWhatWasWritten) {
  const auto loaded = LoadModel(directory_ / "");
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  const Model& model = **loaded;
  EXPECT_EQ(model.name, "shop");
  EXPECT_EQ(model.version, model_->version);
  EXPECT_EQ(model.version.size(), 16u);
  EXPECT_EQ(model.tag, model_->tag);
  EXPECT_EQ(model.parameters, model_->parameters);
  EXPECT_EQ(model.item_embedding, model_->item_embedding);
  EXPECT_EQ(model.type_embedding, model_->type_embedding);
  ASSERT_EQ(model.layers.size(), model_->layers.size());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    EXPECT_EQ(model.layers[i].projection, model_->layers[i].projection);
    EXPECT_EQ(model.layers[i].out, model_->layers[i].out);
    EXPECT_EQ(model.layers[i].out_bias, model_->layers[i].out_bias);
    EXPECT_EQ(model.layers[i].bias_pos, model_->layers[i].bias_pos);
    EXPECT_EQ(model.layers[i].bias_time, model_->layers[i].bias_time);
  }
  EXPECT_EQ(model.vocabulary.item_ids(), model_->vocabulary.item_ids());
  EXPECT_EQ(model.vocabulary.type_names()[1], "view");
}

TEST_F(LoadModelTest, KeepsEveryConfigValue) {
  ModelConfig config = SmallConfig();
  config.time_bias = false;
  config.attention_scale = 7.5;
  config.similarity = Similarity::kDot;
  config.ln_eps = 2e-6;
  config.norm_eps = 3e-7;
  ASSERT_TRUE(WriteModelDirectory(*RandomModel(config, 2), directory_).ok());
  const auto loaded = LoadModel(directory_);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  const ModelConfig& read = (*loaded)->config;
  EXPECT_EQ(read.time_bias, false);
  EXPECT_EQ(read.attention_scale, 7.5);
  EXPECT_EQ(read.similarity, Similarity::kDot);
  EXPECT_EQ(read.ln_eps, 2e-6);
  EXPECT_EQ(read.norm_eps, 3e-7);
  EXPECT_EQ(read.window, config.window);
  EXPECT_EQ(read.layers, config.layers);
  EXPECT_EQ(read.heads, config.heads);
  EXPECT_EQ(read.dim, config.dim);
  EXPECT_TRUE((*loaded)->layers[0].bias_time.empty());
}

TEST_F(LoadModelTest, VersionFollowsEveryFile) {
  ForgetDigests();
  const std::string before = (*LoadModel(directory_))->version;
  EXPECT_NE(before, model_->version);
  Replace("items.tsv", "7\ti7", "7\tj7");
  const std::string items = (*LoadModel(directory_))->version;
  EXPECT_NE(items, before);
  Replace("event_types.tsv", "view", "look");
  const std::string types = (*LoadModel(directory_))->version;
  EXPECT_NE(types, items);
  Replace("config.json", "0.05", "0.06");
  EXPECT_NE((*LoadModel(directory_))->version, types);
}

TEST_F(LoadModelTest, RefusesFilesOfTwoModels) {
  const auto other = temporary_.path() / "other";
  ModelConfig config = SmallConfig();
  config.temperature = .06;
  auto named = std::make_unique<Model>(*RandomModel(config, 2));
  std::vector<std::string> items = named->vocabulary.item_ids(), types = named->vocabulary.type_names();
  items[7] = "j7";
  types[1] = "look";
  named->vocabulary = *Vocabulary::Make(items, types);
  ASSERT_TRUE(WriteModelDirectory(*named, other).ok());
  for (const std::string name : {"config.json", "event_types.tsv", "items.tsv", "model.safetensors"}) {
    ASSERT_TRUE(WriteModelDirectory(*model_, directory_).ok());
    WriteText(directory_ / name, ReadText(other / name));
    const std::string beside = name == "model.safetensors" ? "config.json" : name;
    EXPECT_THAT(Failure(), testing::MatchesRegex(".*/shop: " + beside +
                                                 ": is crc32:[0-9a-f]{8}, expected crc32:[0-9a-f]{8} by "
                                                 "model.safetensors: files of two models, or changed since"));
    ForgetDigests();  // nothing tells then
    EXPECT_TRUE(LoadModel(directory_).ok());
  }
}

TEST_F(LoadModelTest, TakesWhatOtherWritersSay) {
  for (const char* said : {"\"__metadata__\":{\"format\":\"pt\"},", "\"__metadata__\":{\"items.tsv\":7},",
                           "\"__metadata__\":[\"items.tsv\"],", "\"__metadata__\":null,"}) {
    ASSERT_TRUE(WriteModelDirectory(*model_, directory_).ok());
    ForgetDigests();
    ReplaceInHeader("{", std::string("{") + said);
    EXPECT_TRUE(LoadModel(directory_).ok()) << said;
  }
}

TEST_F(LoadModelTest, NamesTheDirectoryThatIsMissing) {
  const auto model = LoadModel(directory_ / "nothing");
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(model.error().message(), (directory_ / "nothing").string() + ": no such directory");
}

TEST_F(LoadModelTest, NamesTheFileThatIsMissingOrNone) {
  for (const char* name : {"config.json", "event_types.tsv", "items.tsv", "model.safetensors"}) {
    const std::string content = ReadText(File(name));
    std::filesystem::remove(File(name));
    EXPECT_EQ(Failure(), directory_.string() + ": " + name + ": no such file");
    std::filesystem::create_directory(File(name));
    EXPECT_EQ(Failure(), directory_.string() + ": " + name + ": is a directory, expected a file");
    std::filesystem::remove(File(name));
    std::filesystem::create_symlink(name, File(name));
    EXPECT_EQ(Failure(), directory_.string() + ": " + name + ": cannot be read: Too many levels of symbolic links");
    std::filesystem::remove(File(name));
    ASSERT_EQ(mkfifo(File(name).c_str(), 0600), 0);
    EXPECT_EQ(Failure(), directory_.string() + ": " + name + ": is not a regular file");
    std::filesystem::remove(File(name));
    WriteText(File(name), content);
  }
}

TEST_F(LoadModelTest, RefusesConfigThatIsNotJson) {
  WriteText(File("config.json"), "{\"format\": ");
  EXPECT_THAT(Failure(), HasSubstr("config.json: not JSON: parse error at line 1"));
  WriteText(File("config.json"), "[1]");
  EXPECT_THAT(Failure(), HasSubstr("config.json: not a JSON object"));
  WriteText(File("config.json"), std::string(100'000, '['));
  EXPECT_THAT(Failure(), HasSubstr("config.json: not JSON"));
}

TEST_F(LoadModelTest, RefusesWrongKeysOfConfig) {
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"\"window\": 5", "\"window\": 5, \"windows\": 5", "config.json: windows: unknown key for block \"hstu\""},
      {"\"window\": 5", "\"window\": 5, \"window\": 6", "config.json: key \"window\" comes twice"},
      {"\"window\": 5,", "", "config.json: window: missing, expected a whole number from 1 to 65536"},
      {"\"window\": 5", "\"window\": 0", "config.json: window: 0, expected a whole number"},
      {"\"window\": 5", "\"window\": 5.5", "config.json: window: 5.5, expected a whole number"},
      {"\"window\": 5", "\"window\": \"5\"", "config.json: window: \"5\", expected a whole number"},
      {"\"items\": 50", "\"items\": 1000000000000", "config.json: items: 1000000000000, expected a whole number"},
      {"\"items\": 50", "\"items\": -1", "config.json: items: -1, expected a whole number"},
      {"\"layers\": 2", "\"layers\": 65", "config.json: layers: 65, expected a whole number from 1 to 64"},
      {"\"heads\": 2", "\"heads\": 3", "config.json: heads: 3, expected a divisor of dim 16"},
      {"\"dim\": 16", "\"dim\": 18446744073709551615", "config.json: dim: 18446744073709551615, expected"},
      {"freshet-hstu-1", "freshet-hstu-2", "config.json: format: \"freshet-hstu-2\", expected \"freshet-hstu-1\""},
      {"\"block\": \"hstu\"", "\"block\": \"ligr\"", "config.json: block: \"ligr\", expected \"hstu\""},
      {"\"time_unit\": \"s\"", "\"time_unit\": \"ms\"", "config.json: time_unit: \"ms\", expected \"s\""},
      {"\"time_bias\": true", "\"time_bias\": 1", "config.json: time_bias: 1, expected true or false"},
      {"\"cosine\"", "\"cos\"", "config.json: similarity: \"cos\", expected \"cosine\" or \"dot\""},
      {"\"temperature\": 0.05", "\"temperature\": 0", "config.json: temperature: 0, expected a number"},
      {"\"temperature\": 0.05", "\"temperature\": null", "config.json: temperature: null, expected a number"},
      {"\"ln_eps\": 1e-06", "\"ln_eps\": -1", "config.json: ln_eps: -1, expected a number"},
      {"\"window\": 5", "\"window\": 5, \"ffn_dim\": 5", "config.json: ffn_dim: unknown key for block \"hstu\""},
      {"\"attention_scale\": null", "\"attention_scale\": \"W\"", "config.json: attention_scale: \"W\", expected"},
  };
  const std::string content = ReadText(File("config.json"));
  for (const auto& wrong : kCases) {
    Replace("config.json", wrong.from, wrong.to);
    EXPECT_THAT(Failure(), HasSubstr(wrong.message));
    WriteText(File("config.json"), content);
  }
}

TEST_F(LoadModelTest, RefusesSizesThatDisagree) {
  Replace("config.json", "\"dim\": 16", "\"dim\": 32");
  EXPECT_EQ(Failure(), directory_.string() +
                           ": item_embedding.weight is F32 [50, 16], expected F32 [50, 32] ([items, dim] by "
                           "config.json); file model.safetensors");
  Replace("config.json", "\"dim\": 32", "\"dim\": 16");
  Replace("config.json", "\"items\": 50", "\"items\": 1000000000");
  EXPECT_THAT(Failure(), HasSubstr("items.tsv: 50 rows, expected 1000000000 by config.json"));
  Replace("config.json", "\"items\": 1000000000", "\"items\": 50");
  Replace("config.json", "\"event_types\": 4", "\"event_types\": 3");
  EXPECT_THAT(Failure(), HasSubstr("event_types.tsv: 4 rows, expected 3 by config.json"));
  Replace("config.json", "\"event_types\": 3", "\"event_types\": 4");
  Replace("config.json", "\"layers\": 2", "\"layers\": 3");
  EXPECT_THAT(Failure(), HasSubstr("layers.2.uvqk.weight is missing, expected F32 [16, 64] ([dim, 4·dim]"));
  Replace("config.json", "\"layers\": 3", "\"layers\": 1");
  EXPECT_THAT(Failure(), HasSubstr("layers.1.bias_pos is no tensor of a model with 1 layers"));
  Replace("config.json", "\"layers\": 1", "\"layers\": 2");
  Replace("config.json", "\"time_bias\": true", "\"time_bias\": false");
  EXPECT_THAT(Failure(), HasSubstr("layers.0.bias_time is no tensor of a model with 2 layers and without time_bias"));
}

TEST_F(LoadModelTest, RefusesEveryTruncation) {
  const std::string content = ReadText(File("model.safetensors"));
  for (size_t length = 0; length < content.size(); length += 1 + length / 7) {
    WriteText(File("model.safetensors"), content.substr(0, length));
    EXPECT_THAT(Failure(), HasSubstr("model.safetensors: ")) << length;
  }
  WriteText(File("model.safetensors"), content.substr(0, content.size() - 1));
  EXPECT_THAT(Failure(), HasSubstr("(truncated?)"));
}

TEST_F(LoadModelTest, RefusesDamagedHeaders) {
  const std::string content = ReadText(File("model.safetensors"));
  const auto expect = [&](const char* message) {
    EXPECT_THAT(Failure(), HasSubstr(message));
    WriteText(File("model.safetensors"), content);
  };
  WriteText(File("model.safetensors"), std::string(8, '\xff') + content.substr(8));
  expect("model.safetensors: header of 18446744073709551615 bytes, but the file has");
  WriteText(File("model.safetensors"), content + "more");
  expect("model.safetensors: 4 bytes after the last tensor belong to none");
  ChangeHeader([](std::string& header) { header[0] = '!'; });
  expect("model.safetensors: not JSON");
  ChangeHeader([](std::string& header) { header = "[]"; });
  expect("model.safetensors: header is not a JSON object");
  ReplaceInHeader("\"layers.0.out.bias\"", "\"layers.1.out.bias\"");
  expect("model.safetensors: key \"layers.1.out.bias\" comes twice");
  ReplaceInHeader("\"layers.0.out.bias\"", "\"layers.0.out.boas\"");
  expect("layers.0.out.bias is missing");
  ReplaceInHeader("\"F32\"", "\"I32\"");
  expect("is I32 [50, 16], expected F32, BF16 or I8 [50, 16]");
  ReplaceInHeader("\"F32\"", "\"X32\"");
  expect("dtype \"X32\" is not one of the format");
  ReplaceInHeader("\"dtype\"", "\"type\"");
  expect("item_embedding.weight: expected {\"dtype\"");
  ReplaceInHeader("[50,16]", "[-50,16]");
  expect("item_embedding.weight: expected {\"dtype\"");
  ReplaceInHeader("[50,16]", "[50,17]");
  expect("item_embedding.weight: 3200 bytes, but F32 [50, 17] takes 3400");
  ReplaceInHeader("[50,16]", "[4611686018427387904,16]");
  expect("takes more than memory can hold");
  ReplaceInHeader("[50,16]", "[16,50]");
  expect("item_embedding.weight is F32 [16, 50], expected F32 [50, 16]");
}

TEST_F(LoadModelTest, RefusesTensorsThatOverlapOrLeaveHoles) {
  const std::string content = ReadText(File("model.safetensors"));
  // The item table ends at 3200, the type table at 3456.
  ReplaceInHeader("[3200,3456]", "[3196,3452]");
  EXPECT_THAT(Failure(), HasSubstr("type_embedding.weight: overlaps item_embedding.weight"));
  WriteText(File("model.safetensors"), content);
  ReplaceInHeader("[3200,3456]", "[0,256]");
  EXPECT_THAT(Failure(), HasSubstr("overlaps"));
  WriteText(File("model.safetensors"), content);
  ReplaceInHeader("[3200,3456]", "[3456,3200]");
  EXPECT_THAT(Failure(), HasSubstr("type_embedding.weight: bytes 3456..3200 reach beyond"));
  WriteText(File("model.safetensors"), content);
  ReplaceInHeader("[3200,3456]", "[3200,99999999]");
  EXPECT_THAT(Failure(), HasSubstr("type_embedding.weight: bytes 3200..99999999 reach beyond the file"));
  WriteText(File("model.safetensors"), content);
  ReplaceInHeader("\"shape\":[4,16]", "\"shape\":[3,16]");
  ReplaceInHeader("[3200,3456]", "[3264,3456]");
  EXPECT_THAT(Failure(), HasSubstr("64 bytes before type_embedding.weight belong to no tensor"));
}

TEST_F(LoadModelTest, RefusesWeightsThatAreNotNumbers) {
  for (const auto& [value, name] : {std::pair{std::numeric_limits<float>::quiet_NaN(), "NaN"},
                                    std::pair{-std::numeric_limits<float>::infinity(), "infinite"}}) {
    Model damaged = *RandomModel(SmallConfig(), 1);
    damaged.layers[1].out[17] = value;
    ASSERT_TRUE(WriteModelDirectory(damaged, directory_).ok());
    EXPECT_THAT(Failure(), HasSubstr(std::string("layers.1.out.weight[17] is ") + name));
  }
}

TEST_F(LoadModelTest, RefusesWrongVocabularies) {
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"7\ti7\n", "8\ti7\n", "items.tsv: line 8: row \"8\", expected 7"},
      {"7\ti7\n", "", "items.tsv: line 8: row \"8\", expected 7"},
      {"7\ti7\n", "7\ti7\n7\ti7\n", "items.tsv: line 9: row \"7\", expected 8"},
      {"7\ti7\n", "7 i7\n", "items.tsv: line 8: no tab"},
      {"7\ti7\n", "7\ti7\tx\n", "items.tsv: line 8: a second tab"},
      {"7\ti7\n", "7\ti7\r\n", "items.tsv: line 8: ends with CR LF"},
      {"7\ti7\n", "7\t\xff\n", "items.tsv: line 8: not UTF-8"},
      {"7\ti7\n", "7\t\n", "items row 7: id is empty"},
      {"7\ti7\n", "7\ti6\n", "items row 7: duplicate id"},
      {"0\t[unknown]\n", "0\ti0\n", "items row 0: is \"i0\", expected \"[unknown]\""},
      {"49\ti49\n", "49\ti4", "items.tsv: line 50: no line feed at its end"},
      {"49\ti49\n", "", "items.tsv: 49 rows, expected 50 by config.json"},
  };
  const std::string content = ReadText(File("items.tsv"));
  for (const auto& wrong : kCases) {
    Replace("items.tsv", wrong.from, wrong.to);
    EXPECT_THAT(Failure(), AllOf(HasSubstr(directory_.string()), HasSubstr(wrong.message)));
    WriteText(File("items.tsv"), content);
  }
}

TEST_F(LoadModelTest, RefusesItemsWhoseStableHashesCollide) {
  // Found by inverting the hash, which has an inverse for texts of 4 to 8 bytes of one length.
  ASSERT_EQ(HashItem("aow9frx"), HashItem("2wikloqr"));
  ForgetDigests();
  Replace("items.tsv", "7\ti7\n", "7\taow9frx\n");
  ASSERT_TRUE(LoadModel(directory_).ok());
  Replace("items.tsv", "31\ti31\n", "31\t2wikloqr\n");
  EXPECT_EQ(Failure(), directory_.string() +
                           ": items row 31: stable hashes collide: \"2wikloqr\" and row 7 \"aow9frx\"; rename one");
}

TEST_F(LoadModelTest, RefusesDamageAnywhereOrLoads) {
  const std::string content = ReadText(File("model.safetensors"));
  for (size_t at = 0; at < content.size(); at += at < 2000 ? 3 : 97) {
    std::string damaged = content;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    WriteText(File("model.safetensors"), damaged);
    const auto model = LoadModel(directory_);
    if (model.ok()) {
      EXPECT_NE((*model)->version, model_->version);
    }
  }
}

TEST(Safetensors, ReadsBackAllTypesAndEmptyTensors) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "sequences.safetensors";
  const std::vector<int64_t> offsets = {0, 2, 3};
  const std::vector<int32_t> items = {4, -5, 6};
  const std::vector<float> weights = {.5f};
  const TensorView tensors[] = {
      {"offsets", TensorType::kInt64, {3}, std::as_bytes(std::span(offsets))},
      {"items", TensorType::kInt32, {3}, std::as_bytes(std::span(items))},
      {"nothing", TensorType::kFloat32, {0, 7}, {}},
      {"weights", TensorType::kFloat32, {1, 1}, std::as_bytes(std::span(weights))},
  };
  ASSERT_TRUE(WriteSafetensors(path, tensors).ok());
  auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message();
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->header().size() % 8, 0u);
  for (const TensorEntry& entry : file->tensors()) {
    std::vector<std::byte> bytes(entry.end - entry.begin);
    ASSERT_TRUE(file->Read(entry, bytes).ok());
    for (const TensorView& tensor : tensors) {
      if (tensor.name != entry.name) continue;
      EXPECT_EQ(entry.type, TensorTypeName(tensor.type));
      EXPECT_EQ(entry.shape, tensor.shape);
      EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
    }
  }
}

TEST(Safetensors, SaysWhereItCannotWrite) {
  const std::filesystem::path path = "/proc/nowhere/x.safetensors";
  const Status status = WriteSafetensors(path, {});
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message(), HasSubstr(path.string() + ": cannot be written"));
}

}  // namespace
}  // namespace freshet
