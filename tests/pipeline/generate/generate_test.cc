#include "pipeline/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

bool Always(uint64_t) { return true; }

class GenerateTest : public testing::Test {
 protected:
  GenerateOptions Options(const std::string& name, uint64_t seed = 1) {
    return {.users = 200, .items = 300, .events = 20'000, .seed = seed, .output = directory_.path() / name};
  }
  std::string Events(const GenerateOptions& options) {
    const Status status = Generate(options, Always);
    EXPECT_TRUE(status.ok()) << status.error().message();
    return ReadFile(options.output);
  }
  TemporaryDirectory directory_;
};

TEST_F(GenerateTest, EveryEventIsARecordOfAKnownItem) {
  const GenerateOptions options = Options("new/folder/events.jsonl");
  std::istringstream events(Events(options)), items(ReadFile(CataloguePath(options)));
  std::set<std::string> known;
  for (std::string line; std::getline(items, line);) known.insert(nlohmann::json::parse(line).at("item_id"));
  EXPECT_EQ(known.size(), 300u);
  uint64_t number = 0;
  int64_t last = 0;
  for (std::string line; std::getline(events, line);) {
    const auto event = nlohmann::json::parse(line);
    ASSERT_EQ(event.at("event_id"), "e" + std::to_string(++number));
    ASSERT_TRUE(known.contains(event.at("item_id"))) << line;
    ASSERT_THAT(event.at("event_type").get<std::string>(), testing::AnyOf("view", "cart", "purchase"));
    ASSERT_GE(event.at("timestamp").get<int64_t>(), last);
    ASSERT_TRUE(event.at("user_id").is_string());
    last = event.at("timestamp");
  }
  EXPECT_EQ(number, options.events);
}

TEST_F(GenerateTest, BytesAreAFunctionOfTheSeed) {
  const std::string once = Events(Options("a.jsonl"));
  EXPECT_EQ(once, Events(Options("b.jsonl")));
  EXPECT_NE(once, Events(Options("c.jsonl", 2)));
}

// The golden files hold the beginnings of both files for seed 42. They are written anew, after a change that is meant,
// by: FRESHET_TEST_UPDATE_GOLDEN=1 generate_test --gtest_filter=GenerateTest.BytesAreThoseOfTheGoldenFiles
TEST_F(GenerateTest, BytesAreThoseOfTheGoldenFiles) {
  const GenerateOptions options = Options("events.jsonl", 42);
  const std::filesystem::path golden = FRESHET_SOURCE_DIR "/tests/pipeline/generate/golden";
  for (const auto& [name, text] :
       {std::pair("events.jsonl", Events(options)), std::pair("items.jsonl", ReadFile(CataloguePath(options)))}) {
    const std::string beginning = text.substr(0, text.find('\n', 4000) + 1);
    if (std::getenv("FRESHET_TEST_UPDATE_GOLDEN") != nullptr) std::ofstream(golden / name) << beginning;
    EXPECT_EQ(beginning, ReadFile(golden / name)) << name;
  }
}

TEST_F(GenerateTest, CompressedFilesHoldTheSameBytes) {
  const std::string plain = Events(Options("events.jsonl"));

  Events(Options("events.jsonl.gz"));
  const gzFile gzip = gzopen((directory_.path() / "events.jsonl.gz").c_str(), "rb");
  ASSERT_NE(gzip, nullptr);
  std::string unpacked(plain.size() + 1, '\0');
  EXPECT_EQ(gzread(gzip, unpacked.data(), static_cast<unsigned>(unpacked.size())), static_cast<int>(plain.size()));
  EXPECT_EQ(gzclose(gzip), Z_OK);
  EXPECT_EQ(unpacked.substr(0, plain.size()), plain);

  const std::string packed = Events(Options("events.jsonl.zst"));
  EXPECT_LT(packed.size(), plain.size() / 3);
  unpacked.assign(plain.size() + 1, '\0');
  const size_t size = ZSTD_decompress(unpacked.data(), unpacked.size(), packed.data(), packed.size());
  ASSERT_FALSE(ZSTD_isError(size)) << ZSTD_getErrorName(size);
  EXPECT_EQ(unpacked.substr(0, size), plain);
}

TEST_F(GenerateTest, WrongOptionsAreToldByFlag) {
  const auto message = [&](auto change) {
    GenerateOptions options = Options("events.jsonl");
    change(options);
    const Status status = Generate(options, Always);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.error().code(), ErrorCode::kInvalidArgument);
    return status.error().message();
  };
  EXPECT_EQ(message([](auto& options) { options.users = 0; }),
            "--users: 0: expected a whole number from 1 to 100000000");
  EXPECT_EQ(message([](auto& options) { options.items = 1'000'000'001; }),
            "--items: 1000000001: expected a whole number from 1 to 1000000000");
  EXPECT_EQ(message([](auto& options) { options.events = 0; }),
            "--events: 0: expected a whole number from 1 to 1000000000000");
  EXPECT_EQ(message([](auto& options) { options.output = "x/items.jsonl"; }),
            "--output: \"x/items.jsonl\": expected a file's name other than items.jsonl, which is the catalogue's");
  EXPECT_THAT(message([](auto& options) { options.output = ""; }), testing::StartsWith("--output: \"\": expected"));
}

TEST_F(GenerateTest, AFileThatCannotBeWrittenIsNamed) {
  std::ofstream(directory_.path() / "file") << "x";
  const Status below_a_file = Generate(Options("file/events.jsonl"), Always);
  ASSERT_FALSE(below_a_file.ok());
  EXPECT_EQ(below_a_file.error().code(), ErrorCode::kIo);
  EXPECT_EQ(below_a_file.error().message(),
            (directory_.path() / "file/items.jsonl").string() + ": cannot be created: Not a directory");

  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  std::filesystem::create_symlink("/dev/full", directory_.path() / "full.jsonl");
  const Status full = Generate(Options("full.jsonl"), Always);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().message(),
            (directory_.path() / "full.jsonl").string() + ": cannot be written: No space left on device");
}

TEST_F(GenerateTest, StopsWhenAsked) {
  uint64_t heard = 0;
  const Status status = Generate(Options("events.jsonl"), [&](uint64_t events) {
    heard = events;
    return false;
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kCancelled);
  EXPECT_LT(heard, 20'000u);
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path())) << "nothing is left of it";
}

TEST_F(GenerateTest, WhatIsThereStaysUntilAllIsWritten) {
  const GenerateOptions options = Options("events.jsonl");
  const std::string events = Events(options), items = ReadFile(CataloguePath(options));
  GenerateOptions other = Options("events.jsonl", 2);
  other.items = 50;
  const auto stop = [&](uint64_t) {
    EXPECT_EQ(ReadFile(options.output), events);
    return false;
  };
  EXPECT_FALSE(Generate(other, stop).ok());
  EXPECT_EQ(ReadFile(options.output), events);
  EXPECT_EQ(ReadFile(CataloguePath(options)), items);
  EXPECT_NE(Events(other), events);
  EXPECT_NE(ReadFile(CataloguePath(other)), items);
}

TEST_F(GenerateTest, NothingIsWrittenBesideADevice) {
  std::filesystem::create_symlink("/dev/null", directory_.path() / "null.jsonl");
  const Status status = Generate(Options("null.jsonl"), Always);
  EXPECT_TRUE(status.ok()) << status.error().message();
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "items.jsonl"));
  EXPECT_TRUE(std::filesystem::is_character_file(directory_.path() / "null.jsonl"));
}

TEST_F(GenerateTest, ALinkStaysOne) {
  std::ofstream(directory_.path() / "there.jsonl") << "x";
  std::filesystem::create_symlink("there.jsonl", directory_.path() / "link.jsonl");
  const std::string events = Events(Options("link.jsonl"));
  EXPECT_TRUE(std::filesystem::is_symlink(directory_.path() / "link.jsonl"));
  EXPECT_EQ(ReadFile(directory_.path() / "there.jsonl"), events);
}

}  // namespace
}  // namespace freshet
