// A model directory on disk to damage, for tests of LoadModel().
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>

#include "inference/model.h"
#include "tests/inference/model_files.h"
#include "tests/support/temporary_directory.h"

namespace freshet {

inline std::string ReadText(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline void WriteText(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

class LoadModelTest : public testing::Test {
 protected:
  LoadModelTest() : model_(RandomModel(SmallConfig(), 1)), directory_(temporary_.path() / "shop") {
    EXPECT_TRUE(WriteModelDirectory(*model_, directory_).ok());
  }

  std::filesystem::path File(const char* name) const { return directory_ / name; }

  // The message that loading fails with.
  std::string Failure() const {
    const auto model = LoadModel(directory_);
    EXPECT_FALSE(model.ok());
    return model.ok() ? "" : model.error().message();
  }

  void Replace(const char* file, const std::string& from, const std::string& to) const {
    std::string text = ReadText(File(file));
    const size_t at = text.find(from);
    ASSERT_NE(at, text.npos) << from;
    WriteText(File(file), text.replace(at, from.size(), to));
  }

  // Rewrites the safetensors header by `change`, its length kept true.
  void ChangeHeader(const std::function<void(std::string&)>& change) const {
    const std::string file = ReadText(File("model.safetensors"));
    uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    std::string header = file.substr(8, length);
    change(header);
    const uint64_t changed = header.size();
    WriteText(File("model.safetensors"),
              std::string(reinterpret_cast<const char*>(&changed), 8) + header + file.substr(8 + length));
  }

  void ReplaceInHeader(const std::string& from, const std::string& to) const {
    ChangeHeader([&](std::string& header) {
      const size_t at = header.find(from);
      ASSERT_NE(at, header.npos) << from << " in " << header;
      header.replace(at, from.size(), to);
    });
  }

  // As another writer has it, so that the files beside the weights may be changed.
  void ForgetDigests() const {
    ChangeHeader([](std::string& header) {
      const size_t begin = header.find("\"__metadata__\"");
      ASSERT_NE(begin, header.npos) << header;
      header.erase(begin, header.find("},", begin) + 2 - begin);
    });
  }

  TemporaryDirectory temporary_;
  std::unique_ptr<const Model> model_;
  std::filesystem::path directory_;
};

}  // namespace freshet
