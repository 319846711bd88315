#include <gmock/gmock.h>

#include <string>
#include <utility>

#include "tests/inference/load_model_test.h"

namespace freshet {
namespace {

using testing::HasSubstr;

// With a transformer, of additive attention.
class LoadTransformerTest : public LoadModelTest {
 protected:
  LoadTransformerTest() { Write(Attention::kAdditive); }

  void Write(Attention attention) {
    ModelConfig config = SmallConfig();
    MakeTransformer(config, attention);
    model_ = RandomModel(config, 1);
    EXPECT_TRUE(WriteModelDirectory(*model_, directory_).ok());
  }
};

TEST_F(LoadTransformerTest, ReadsBackWhatWasWritten) {
  for (const Attention attention : {Attention::kSoftmax, Attention::kAdditive}) {
    Write(attention);
    const auto loaded = LoadModel(directory_);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ((*loaded)->config.block, Block::kTransformer);
    EXPECT_EQ((*loaded)->config.attention, attention);
    EXPECT_EQ((*loaded)->config.ffn_dim, 32);
    EXPECT_EQ((*loaded)->version, model_->version);
    const size_t attention_weights = 16u * 48 + 16 * 16 + 16 + (attention == Attention::kAdditive ? 16 : 0);
    const size_t layer = attention_weights + 16 * 64 + 32 * 16 + 16 + 2 * (5 + 129);
    EXPECT_EQ((*loaded)->parameters, (50 + 4) * 16 + 2 * layer);
    EXPECT_EQ((*loaded)->layers[1].score.size(), attention == Attention::kAdditive ? 16u : 0u);
    for (size_t i = 0; i < 2; ++i) {
      const LayerWeights &read = (*loaded)->layers[i], &written = model_->layers[i];
      EXPECT_EQ(read.projection, written.projection);
      EXPECT_EQ(read.out, written.out);
      EXPECT_EQ(read.score, written.score);
      EXPECT_EQ(read.ffn_in, written.ffn_in);
      EXPECT_EQ(read.ffn_out, written.ffn_out);
      EXPECT_EQ(read.ffn_out_bias, written.ffn_out_bias);
    }
  }
}

TEST_F(LoadTransformerTest, RefusesWrongKeysOfConfig) {
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"\"window\": 5", "\"window\": 5, \"attention_scale\": null",
       "config.json: attention_scale: unknown key for block \"transformer\""},
      {"freshet-transformer-1", "freshet-hstu-1",
       "config.json: format: \"freshet-hstu-1\", expected \"freshet-transformer-1\""},
      {"\"block\": \"transformer\"", "\"block\": \"hstu\"",
       "config.json: format: \"freshet-transformer-1\", expected \"freshet-hstu-1\""},
      {"\"block\": \"transformer\",", "",
       "config.json: block: missing, expected \"hstu\", \"transformer\" or \"sasrec\""},
      {"\"additive\"", "\"cosine\"", "config.json: attention: \"cosine\", expected \"softmax\" or \"additive\""},
      {"\"attention\": \"additive\",", "", "config.json: attention: missing, expected \"softmax\" or \"additive\""},
      {"\"ffn_dim\": 32,", "", "config.json: ffn_dim: missing, expected a whole number from 1 to 16384"},
      {"\"ffn_dim\": 32", "\"ffn_dim\": 0", "config.json: ffn_dim: 0, expected a whole number from 1 to 16384"},
      {"\"ffn_dim\": 32", "\"ffn_dim\": 16385", "config.json: ffn_dim: 16385, expected a whole number"},
      {"\"ffn_dim\": 32", "\"ffn_dim\": \"32\"", "config.json: ffn_dim: \"32\", expected a whole number"},
      {"\"window\": 5", "\"window\": 0", "config.json: window: 0, expected a whole number"},
  };
  const std::string content = ReadText(File("config.json"));
  for (const auto& wrong : kCases) {
    Replace("config.json", wrong.from, wrong.to);
    EXPECT_THAT(Failure(), HasSubstr(wrong.message));
    WriteText(File("config.json"), content);
  }
}

TEST_F(LoadTransformerTest, RefusesTensorsThatDisagree) {
  Replace("config.json", "\"ffn_dim\": 32", "\"ffn_dim\": 33");
  EXPECT_EQ(Failure(), directory_.string() +
                           ": layers.0.ffn_in.weight is F32 [16, 64], expected F32 [16, 66] ([dim, 2·ffn_dim] by "
                           "config.json); file model.safetensors");
  Replace("config.json", "\"ffn_dim\": 33", "\"ffn_dim\": 32");
  Replace("config.json", "\"heads\": 2", "\"heads\": 4");
  EXPECT_THAT(Failure(), HasSubstr("layers.0.score.weight is F32 [2, 8], expected F32 [4, 4] ([heads, dim / heads]"));
  Replace("config.json", "\"heads\": 4", "\"heads\": 2");
  Replace("config.json", "\"additive\"", "\"softmax\"");
  EXPECT_THAT(Failure(), HasSubstr("layers.0.score.weight is no tensor of a model with 2 layers of softmax attention"));
  Write(Attention::kSoftmax);
  Replace("config.json", "\"softmax\"", "\"additive\"");
  EXPECT_THAT(Failure(), HasSubstr("layers.0.score.weight is missing, expected F32 [2, 8]"));
  const std::pair<const char*, const char*> kSpecs[] = {
      {"qkv.weight", "F32 [16, 48] ([dim, 3·dim]"},
      {"out.weight", "F32 [16, 16] ([dim, dim]"},
      {"out.bias", "F32 [16] ([dim]"},
      {"ffn_in.weight", "F32 [16, 64] ([dim, 2·ffn_dim]"},
      {"ffn_out.weight", "F32 [32, 16] ([ffn_dim, dim]"},
      {"ffn_out.bias", "F32 [16] ([dim]"},
      {"bias_pos", "F32 [2, 5] ([heads, window]"},
      {"bias_time", "F32 [2, 129] ([heads, 129]"},
  };
  for (const auto& [name, spec] : kSpecs) {
    Write(Attention::kSoftmax);
    ReplaceInHeader(std::string("\"layers.1.") + name, std::string("\"layers.1.x") + name);
    EXPECT_THAT(Failure(), HasSubstr(std::string("layers.1.") + name + " is missing, expected " + spec));
  }
}

}  // namespace
}  // namespace freshet
