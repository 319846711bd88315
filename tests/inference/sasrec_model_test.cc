#include <gmock/gmock.h>

#include <string>
#include <utility>
#include <vector>

#include "inference/sasrec_import.h"
#include "tests/inference/load_model_test.h"

namespace freshet {
namespace {

using testing::HasSubstr;

// With SASRec, of a table for events apart from that of the items to score.
class LoadSasrecTest : public LoadModelTest {
 protected:
  LoadSasrecTest() { Write({.norm = Norm::kPre, .padding = Padding::kToken, .input_embedding = true}); }

  void Write(const SasrecForm& form) {
    ModelConfig config = SmallConfig();
    MakeSasrec(config, form);
    model_ = RandomModel(config, 1);
    EXPECT_TRUE(WriteModelDirectory(*model_, directory_).ok());
  }
};

TEST_F(LoadSasrecTest, ReadsBackWhatWasWritten) {
  for (const SasrecForm& form : {SasrecForm{.norm = Norm::kPost, .relu = false, .scaled_items = false},
                                 SasrecForm{.padding = Padding::kNone, .input_embedding = true}}) {
    Write(form);
    const auto loaded = LoadModel(directory_);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    const Model& model = **loaded;
    EXPECT_TRUE(model.config.recomputes());
    EXPECT_EQ(model.config.exact_history(), 5u);
    EXPECT_EQ(model.config.sasrec.norm, form.norm);
    EXPECT_EQ(model.config.sasrec.padding, form.padding);
    EXPECT_EQ(model.config.sasrec.relu, form.relu);
    EXPECT_EQ(model.config.sasrec.scaled_items, form.scaled_items);
    EXPECT_EQ(model.config.sasrec.input_embedding, form.input_embedding);
    EXPECT_EQ(model.version, model_->version);
    const size_t layer = 4u * 16 + 4 * (16 * 16 + 16) + 16 * 32 + 32 + 32 * 16 + 16;
    EXPECT_EQ(model.parameters, (form.input_embedding ? 100u : 50u) * 16 + 5 * 16 + 2 * 16 + 2 * layer);
    EXPECT_EQ(model.input_embedding, model_->input_embedding);
    EXPECT_EQ(model.position_embedding, model_->position_embedding);
    EXPECT_EQ(model.norm_bias, model_->norm_bias);
    for (size_t i = 0; i < 2; ++i) {
      const LayerWeights &read = model.layers[i], &written = model_->layers[i];
      EXPECT_EQ(read.query, written.query);
      EXPECT_EQ(read.projection_bias, written.projection_bias);
      EXPECT_EQ(read.attention_norm, written.attention_norm);
      EXPECT_EQ(read.ffn_norm_bias, written.ffn_norm_bias);
      EXPECT_EQ(read.ffn_in_bias, written.ffn_in_bias);
    }
  }
}

TEST_F(LoadSasrecTest, RefusesWrongKeysOfConfig) {
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"\"window\": 5", "\"window\": 5, \"time_bias\": false", "time_bias: unknown key for block \"sasrec\""},
      {"\"pre\"", "\"rms\"", "norm: \"rms\", expected \"query\", \"post\" or \"pre\""},
      {"\"token\"", "\"left\"", "padding: \"left\", expected \"none\", \"zero\" or \"token\""},
      {"\"relu\": true", "\"relu\": \"gelu\"", "relu: \"gelu\", expected true or false"},
      {"\"scaled_items\": true,", "", "scaled_items: missing, expected true or false"},
      {"\"dot\"", "\"cosine\"", "similarity: \"cosine\", expected \"dot\""},
  };
  const std::string content = ReadText(File("config.json"));
  for (const auto& wrong : kCases) {
    Replace("config.json", wrong.from, wrong.to);
    EXPECT_THAT(Failure(), HasSubstr(std::string("config.json: ") + wrong.message));
    WriteText(File("config.json"), content);
  }
}

TEST_F(LoadSasrecTest, RefusesTensorsThatDisagree) {
  Replace("config.json", "\"input_embedding\": true", "\"input_embedding\": false");
  EXPECT_THAT(Failure(), HasSubstr("input_embedding.weight is no tensor of a model with 2 layers of SASRec"));
  const std::pair<const char*, const char*> kSpecs[] = {
      {"position_embedding.weight", "F32 [5, 16] ([window, dim]"},
      {"input_embedding.weight", "F32 [50, 16] ([items, dim]"},
      {"norm.weight", "F32 [16] ([dim]"},
      {"layers.1.query.bias", "F32 [16] ([dim]"},
      {"layers.1.key_value.weight", "F32 [16, 32] ([dim, 2·dim]"},
      {"layers.1.ffn_in.weight", "F32 [16, 32] ([dim, ffn_dim]"},
  };
  for (const auto& [name, spec] : kSpecs) {
    Write({.input_embedding = true});
    ReplaceInHeader(std::string("\"") + name, std::string("\"x") + name);
    EXPECT_THAT(Failure(), HasSubstr(std::string(name) + " is missing, expected " + spec));
  }
}

TEST(ImportSasrec, RefusesHeadsThatDivideNothing) {
  std::vector<CheckpointTensor> tensors;
  for (const char* name : {"item_emb.weight", "pos_emb.weight"})
    tensors.push_back({name, {3, 4}, std::vector(12, 1.f)});
  for (const int heads : {SasrecImport().heads, -1, 3}) {
    const auto model = ImportSasrec(tensors, {.heads = heads, .items = {"a", "b"}});
    ASSERT_FALSE(model.ok()) << heads;
    EXPECT_EQ(model.error().message(),
              "--heads: " + std::to_string(heads) + ", expected a divisor of the checkpoint's 4 columns");
  }
}

}  // namespace
}  // namespace freshet
