// Random models for tests, in memory and on disk.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "inference/model.h"

namespace freshet {

// A shape that is quick to compute; tests change what they are about.
inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.items = 50;
  config.event_types = 4;
  config.dim = 16;
  config.layers = 2;
  config.heads = 2;
  config.window = 5;
  config.temperature = .05;
  return config;
}

// A directory of its own, removed with everything in it at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("freshet-test-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace freshet
