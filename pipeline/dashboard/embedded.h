// Files that the build put into the program; cmake/EmbedFiles.cmake writes the .cc.
#pragma once

#include <span>
#include <string_view>

namespace freshet {

struct EmbeddedFile {
  std::string_view name;
  std::string_view content;
};

std::span<const EmbeddedFile> EmbeddedFiles();

}  // namespace freshet
