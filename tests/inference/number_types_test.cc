#include "inference/number_types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
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

// E[r, m·width + j] = centroids[m, codes[r, m], j].
TEST(NumberTypes, DecodesProductCodesByTheFormula) {
  std::mt19937_64 random(TestSeed());
  for (const auto& [rows, parts, centroids, width] :
       {std::array<size_t, 4>{1, 1, 1, 1}, {7, 1, 3, 5}, {50, 4, 256, 4}, {9, 16, 2, 1}, {300, 8, 255, 16}}) {
    ProductCodes matrix{.parts = parts, .centroid_count = centroids};
    for (size_t i = 0; i < rows * parts; ++i) matrix.codes.push_back(static_cast<uint8_t>(random() % centroids));
    for (size_t i = 0; i < parts * centroids * width; ++i) matrix.centroids.push_back(static_cast<float>(i));
    ASSERT_EQ(matrix.part_columns(), width);
    const std::vector<float> values = DecodeProduct(matrix);
    ASSERT_EQ(values.size(), rows * parts * width);
    for (size_t r = 0; r < rows; ++r) {
      for (size_t m = 0; m < parts; ++m) {
        for (size_t j = 0; j < width; ++j) {
          const size_t code = matrix.codes[r * parts + m];
          ASSERT_EQ(values[r * parts * width + m * width + j], matrix.centroids[(m * centroids + code) * width + j]);
        }
      }
    }
  }
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

void ExpectSameCodes(const Model& a, const Model& b) {
  ASSERT_TRUE(a.item_codes && b.item_codes);
  EXPECT_EQ(a.item_codes->parts, b.item_codes->parts);
  EXPECT_EQ(a.item_codes->centroid_count, b.item_codes->centroid_count);
  EXPECT_EQ(a.item_codes->codes, b.item_codes->codes);
  EXPECT_EQ(a.item_codes->centroids, b.item_codes->centroids);
  EXPECT_EQ(a.item_embedding, b.item_embedding);
}

TEST_F(StoredModelTest, ReadsItemsStoredAsCodes) {
  ModelConfig transformer = SmallConfig();
  MakeTransformer(transformer, Attention::kSoftmax);
  for (const ModelConfig& config : {SmallConfig(), transformer}) {
    for (const auto& [parts, centroids] : {std::pair<size_t, size_t>{1, 1}, {4, 7}, {8, 256}, {16, 3}}) {
      const auto model = RandomModelWithCodes(config, 3, parts, centroids);
      const auto read = Stored(*model, {});
      ExpectSameCodes(*read, *model);
      EXPECT_EQ(read->version, model->version);
      EXPECT_EQ(read->parameters, RandomModel(config, 3)->parameters);
    }
  }
}

TEST_F(StoredModelTest, KeepsCodesUnlessTold) {
  const auto model = RandomModelWithCodes(SmallConfig(), 3, 4, 20);
  const auto weights = Stored(*model, {NumberType::kInt8, NumberType::kInt8});
  ExpectSameCodes(*weights, *model);
  EXPECT_NE(weights->layers[0].projection, model->layers[0].projection);
  for (const NumberType type : {NumberType::kFloat32, NumberType::kBFloat16, NumberType::kInt8}) {
    const auto decoded = Stored(*model, {.items = type, .keep_item_codes = false});
    EXPECT_FALSE(decoded->item_codes);
    EXPECT_EQ(decoded->item_embedding == model->item_embedding, type == NumberType::kFloat32);
    EXPECT_LE(Difference(decoded->item_embedding, model->item_embedding), .0022);
    EXPECT_EQ(decoded->layers[0].projection, model->layers[0].projection);
  }
}

TEST_F(StoredModelTest, RefusesCodesOfOtherShapes) {
  Stored(*RandomModelWithCodes(SmallConfig(), 3, 4, 20), {});
  const std::string content = ReadText(File("model.safetensors"));
  const struct {
    const char *from, *to, *message;
  } kCases[] = {
      {"item_embedding.codes", "item_embedding.kodes",
       "item_embedding.codes is missing, expected U8 [50, M] ([items, "
       "parts] by config.json, M a divisor of dim 16); file "
       "model.safetensors"},
      {"\"U8\"", "\"I8\"", "item_embedding.codes is I8 [50, 4], expected U8 [50, M]"},
      {"[50,4]", "[40,5]", "item_embedding.codes is U8 [40, 5], expected U8 [50, M]"},
      {"[50,4]", "[25,8]", "item_embedding.codes is U8 [25, 8], expected U8 [50, M]"},
      {"[50,4]", "[200]", "item_embedding.codes is U8 [200], expected U8 [50, M]"},
      {"[50,4]", "[50,4,1]", "item_embedding.codes is U8 [50, 4, 1], expected U8 [50, M]"},
      {"item_embedding.centroids", "item_embedding.centroid",
       "item_embedding.centroids is missing, expected F32 [4, C, 4] ([parts, centroids, dim / parts], C from 1 to "
       "256); file model.safetensors"},
      {"[4,20,4]", "[4,5,16]", "item_embedding.centroids is F32 [4, 5, 16], expected F32 [4, C, 4]"},
      {"[4,20,4]", "[8,10,4]", "item_embedding.centroids is F32 [8, 10, 4], expected F32 [4, C, 4]"},
      {"[4,20,4]", "[4,80]", "item_embedding.centroids is F32 [4, 80], expected F32 [4, C, 4]"},
      {"\"type_embedding.weight\"", "\"item_embedding.weight\"",
       "item_embedding.codes and item_embedding.weight are both there, expected one of them; file model.safetensors"},
  };
  for (const auto& wrong : kCases) {
    ReplaceInHeader(wrong.from, wrong.to);
    EXPECT_THAT(Failure(), HasSubstr(wrong.message));
    WriteText(File("model.safetensors"), content);
  }
}

TEST_F(StoredModelTest, RefusesCodesOfOtherNumbers) {
  const auto model = RandomModelWithCodes(SmallConfig(), 3, 4, 20);
  const auto failure_with = [&](const std::function<void(ProductCodes&)>& change) {
    Model damaged = *model;
    change(*damaged.item_codes);
    EXPECT_TRUE(WriteModelDirectory(damaged, directory_).ok());
    return Failure();
  };
  EXPECT_THAT(failure_with([](ProductCodes& items) {
                items.centroid_count = 257;
                items.centroids.resize(257 * 16);
              }),
              HasSubstr("item_embedding.centroids is F32 [4, 257, 4], expected F32 [4, C, 4]"));
  EXPECT_THAT(failure_with([](ProductCodes& items) {
                items.parts = 3;
                items.codes.resize(150);
                items.centroids.resize(60);
              }),
              HasSubstr("item_embedding.codes is U8 [50, 3], expected U8 [50, M]"));
  EXPECT_THAT(failure_with([](ProductCodes& items) { items.codes[17] = 20; }),
              HasSubstr("item_embedding.codes[17] is 20, expected a code below 20; file model.safetensors"));
  EXPECT_THAT(failure_with([](ProductCodes& items) { items.codes[199] = 255; }),
              HasSubstr("item_embedding.codes[199] is 255, expected a code below 20"));
  EXPECT_THAT(failure_with([](ProductCodes& items) { items.centroids[5] = std::numeric_limits<float>::quiet_NaN(); }),
              HasSubstr("item_embedding.centroids[5] is NaN; file model.safetensors"));
  EXPECT_THAT(failure_with([](ProductCodes& items) { items.centroids[7] = -std::numeric_limits<float>::infinity(); }),
              HasSubstr("item_embedding.centroids[7] is infinite"));
}

TEST_F(StoredModelTest, RefusesCodesOfNothing) {
  const std::vector<uint8_t> codes(200);
  const TensorView no_parts[] = {{"item_embedding.codes", TensorType::kUInt8, {50, 0}, {}}};
  ASSERT_TRUE(WriteSafetensors(File("model.safetensors"), no_parts).ok());
  EXPECT_THAT(Failure(), HasSubstr("item_embedding.codes is U8 [50, 0], expected U8 [50, M]"));
  const TensorView no_centroids[] = {
      {"item_embedding.codes", TensorType::kUInt8, {50, 4}, std::as_bytes(std::span(codes))},
      {"item_embedding.centroids", TensorType::kFloat32, {4, 0, 4}, {}}};
  ASSERT_TRUE(WriteSafetensors(File("model.safetensors"), no_centroids).ok());
  EXPECT_THAT(Failure(), HasSubstr("item_embedding.centroids is F32 [4, 0, 4], expected F32 [4, C, 4]"));
}

TEST_F(StoredModelTest, SasrecHasNoCodes) {
  ModelConfig config = SmallConfig();
  MakeSasrec(config, {});
  ASSERT_TRUE(WriteModelDirectory(*RandomModelWithCodes(config, 3, 4, 20), directory_).ok());
  EXPECT_THAT(Failure(), HasSubstr("item_embedding.codes is no tensor of a model of SASRec, expected "
                                   "item_embedding.weight; file model.safetensors"));
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
