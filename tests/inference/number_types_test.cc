#include "inference/number_types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "inference/safetensors.h"
#include "tests/inference/load_model_test.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using testing::HasSubstr;

TEST(NumberTypes, Int8KeepsWithinHalfAStepAlongItsAxis) {
  std::mt19937_64 random(TestSeed());
  std::normal_distribution<float> normal;
  constexpr size_t kRows = 7, kColumns = 5;
  std::vector<float> values(kRows * kColumns);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = normal(random) * std::pow(10.0f, static_cast<float>(i / kColumns) - static_cast<float>(i % kColumns));
  }
  for (const ScaleAxis axis : {ScaleAxis::kRows, ScaleAxis::kColumns}) {
    const Int8Matrix matrix = ToInt8(values, kColumns, axis);
    ASSERT_EQ(matrix.scales.size(), axis == ScaleAxis::kRows ? kRows : kColumns);
    std::vector<int> most(matrix.scales.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t line = axis == ScaleAxis::kRows ? i / kColumns : i % kColumns;
      const float scale = matrix.scales[line];
      EXPECT_LE(std::abs(values[i] - static_cast<float>(matrix.codes[i]) * scale), .5001f * scale);
      most[line] = std::max(most[line], std::abs(int{matrix.codes[i]}));
    }
    EXPECT_THAT(most, testing::Each(127));
  }
}

TEST(NumberTypes, Int8OfNothingHasAScaleAboveZero) {
  const std::vector<float> values = {0, -0.0f, std::numeric_limits<float>::denorm_min(), 0};
  const Int8Matrix matrix = ToInt8(values, 2, ScaleAxis::kRows);
  EXPECT_THAT(matrix.codes, testing::Each(0));
  EXPECT_THAT(matrix.scales, testing::Each(1.0f));
}

TEST(NumberTypes, Bf16IsTheNearest) {
  EXPECT_EQ(FromBf16(ToBf16(1.0f)), 1.0f);
  EXPECT_EQ(FromBf16(ToBf16(-1.5f)), -1.5f);
  EXPECT_EQ(FromBf16(ToBf16(1.0f + 0x1p-8f)), 1.0f);           // a tie: to even, down
  EXPECT_EQ(FromBf16(ToBf16(1.0f + 3 * 0x1p-8f)), 1.015625f);  // a tie: to even, up
  EXPECT_EQ(FromBf16(ToBf16(1.0f + 0x1.1p-8f)), 1.0078125f);
  EXPECT_TRUE(std::isfinite(FromBf16(ToBf16(std::numeric_limits<float>::max()))));
  EXPECT_TRUE(std::isfinite(FromBf16(ToBf16(std::numeric_limits<float>::lowest()))));
}

class StoredModelTest : public LoadModelTest {
 protected:
  std::unique_ptr<const Model> Stored(const Model& model, const StoredAs& types) const {
    EXPECT_TRUE(WriteModelDirectory(model, directory_, types).ok());
    auto loaded = LoadModel(directory_);
    EXPECT_TRUE(loaded.ok()) << loaded.error().message();
    return std::move(*loaded);
  }
};

double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  return most;
}

// Weights of sd .1: their rows' and columns' largest are below .5, of which bf16 keeps 8 bits and int8 7.
TEST_F(StoredModelTest, ReadsWhatItWroteInFewerBits) {
  ModelConfig transformer = SmallConfig();
  MakeTransformer(transformer, Attention::kAdditive);
  for (const ModelConfig& config : {SmallConfig(), transformer}) {
    const auto model = RandomModel(config, 3);
    for (const auto& [type, most] :
         {std::pair{NumberType::kFloat32, 0.0}, {NumberType::kBFloat16, .001}, {NumberType::kInt8, .0022}}) {
      const auto read = Stored(*model, {type, type});
      EXPECT_EQ(read->parameters, model->parameters);
      EXPECT_EQ(read->version == model->version, type == NumberType::kFloat32);
      EXPECT_LE(Difference(read->item_embedding, model->item_embedding), most);
      EXPECT_EQ(read->item_embedding == model->item_embedding, type == NumberType::kFloat32);
      EXPECT_EQ(read->type_embedding, model->type_embedding);
      for (size_t l = 0; l < model->layers.size(); ++l) {
        const LayerWeights &layer = read->layers[l], &expected = model->layers[l];
        for (const auto matrix :
             {&LayerWeights::projection, &LayerWeights::out, &LayerWeights::ffn_in, &LayerWeights::ffn_out}) {
          ASSERT_EQ((layer.*matrix).size(), (expected.*matrix).size());
          EXPECT_LE(Difference(layer.*matrix, expected.*matrix), most);
        }
        EXPECT_EQ(layer.out_bias, expected.out_bias);
        EXPECT_EQ(layer.score, expected.score);
        EXPECT_EQ(layer.bias_pos, expected.bias_pos);
        EXPECT_EQ(layer.bias_time, expected.bias_time);
      }
    }
  }
}

TEST_F(StoredModelTest, ItemsAndWeightsAreApart) {
  const auto items = Stored(*model_, {.items = NumberType::kInt8});
  EXPECT_NE(items->item_embedding, model_->item_embedding);
  EXPECT_EQ(items->layers[0].projection, model_->layers[0].projection);
  const auto weights = Stored(*model_, {.weights = NumberType::kInt8});
  EXPECT_EQ(weights->item_embedding, model_->item_embedding);
  EXPECT_NE(weights->layers[0].projection, model_->layers[0].projection);
}

TEST_F(StoredModelTest, Int8OfInt8LosesNothingMore) {
  constexpr StoredAs kInt8 = {NumberType::kInt8, NumberType::kInt8};
  const auto once = Stored(*model_, kInt8), twice = Stored(*once, kInt8);
  EXPECT_LE(Difference(once->item_embedding, twice->item_embedding), 1e-7);
  EXPECT_LE(Difference(once->layers[0].projection, twice->layers[0].projection), 1e-7);
}

TEST_F(StoredModelTest, RefusesTensorsInOtherNumbers) {
  Stored(*model_, {NumberType::kInt8, NumberType::kInt8});
  const std::string content = ReadText(File("model.safetensors"));
  const auto expect = [&](const std::string& message) {
    EXPECT_THAT(Failure(), HasSubstr(message));
    WriteText(File("model.safetensors"), content);
  };
  ReplaceInHeader("\"I8\"", "\"U8\"");
  expect("item_embedding.weight is U8 [50, 16], expected F32, BF16 or I8 [50, 16] ([items, dim] by config.json)");
  ReplaceInHeader("layers.0.out.weight.scale", "layers.0.out.weight.skale");
  expect(
      "layers.0.out.weight.scale is missing, expected F32 [16] (a scale for each column of a tensor in I8); file "
      "model.safetensors");
  ReplaceInHeader("\"shape\":[50]", "\"shape\":[5,10]");
  expect("item_embedding.weight.scale is F32 [5, 10], expected F32 [50] (a scale for each row of a tensor in I8)");
  ReplaceInHeader("layers.1.bias_pos\":{\"data_offsets\"", "layers.1.bias_pos.scale\":{\"data_offsets\"");
  expect("layers.1.bias_pos is missing, expected F32 [2, 5]");
  Stored(*model_, {.weights = NumberType::kInt8});
  ReplaceInHeader("\"layers.0.out.weight.scale\"", "\"item_embedding.weight.scale\"");
  EXPECT_THAT(Failure(), HasSubstr("layers.0.out.weight.scale is missing"));
}

TEST_F(StoredModelTest, RefusesScalesThatAreNotAboveZero) {
  Stored(*model_, {.items = NumberType::kInt8});
  auto file = SafetensorsFile::Open(File("model.safetensors"));
  ASSERT_TRUE(file.ok());
  const auto scale = std::find_if(file->tensors().begin(), file->tensors().end(), [](const TensorEntry& tensor) {
    return tensor.name == "item_embedding.weight.scale";
  });
  ASSERT_NE(scale, file->tensors().end());
  const std::string content = ReadText(File("model.safetensors"));
  const auto failure_with = [&](float value) {
    std::string damaged = content;
    std::memcpy(&damaged[file->header().size() + scale->begin + 3 * sizeof(float)], &value, sizeof value);
    WriteText(File("model.safetensors"), damaged);
    return Failure();
  };
  EXPECT_THAT(failure_with(0), HasSubstr("item_embedding.weight.scale[3] is 0.000000, expected a finite number above "
                                         "0; file model.safetensors"));
  EXPECT_THAT(failure_with(-1), HasSubstr("item_embedding.weight.scale[3] is -1.000000, expected"));
  EXPECT_THAT(failure_with(std::numeric_limits<float>::quiet_NaN()),
              HasSubstr("item_embedding.weight.scale[3] is NaN"));
  EXPECT_THAT(failure_with(std::numeric_limits<float>::infinity()),
              HasSubstr("item_embedding.weight.scale[3] is infinite"));
  EXPECT_THAT(failure_with(std::numeric_limits<float>::max()), HasSubstr("] is infinite; file model.safetensors"));
}

TEST_F(StoredModelTest, RefusesBf16ThatIsNotANumber) {
  Stored(*model_, {.items = NumberType::kBFloat16});
  std::string damaged = ReadText(File("model.safetensors"));
  auto file = SafetensorsFile::Open(File("model.safetensors"));
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(file->tensors()[0].name, "item_embedding.weight");
  damaged.replace(file->header().size() + 2 * 17, 2, "\xC0\x7F", 2);
  WriteText(File("model.safetensors"), damaged);
  EXPECT_THAT(Failure(), HasSubstr("item_embedding.weight[17] is NaN"));
}

}  // namespace
}  // namespace freshet
