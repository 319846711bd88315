#include "core/file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace freshet {
namespace {

namespace fs = std::filesystem;

TEST(ReplaceFile, HoldsTheNewContentOrStays) {
  const fs::path folder = fs::path(testing::TempDir()) / "freshet-replace-file";
  fs::create_directories(folder);
  const fs::path path = folder / "file";
  const auto content = [&] {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  ASSERT_TRUE(ReplaceFile(path, "first, and longer").ok());
  ASSERT_TRUE(ReplaceFile(path, std::string("se\0nd", 5)).ok());
  EXPECT_EQ(content(), std::string("se\0nd", 5));
  EXPECT_TRUE(SyncFolder(folder).ok());

  fs::create_directory(path.string() + ".new");  // where nothing can be written
  const Status refused = ReplaceFile(path, "third");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message(), path.string() + ".new: cannot create: Is a directory");
  EXPECT_EQ(content().size(), 5u);
  fs::remove_all(folder);
  EXPECT_EQ(SyncFolder(folder).error().message(), folder.string() + ": cannot open: No such file or directory");
}

}  // namespace
}  // namespace freshet
