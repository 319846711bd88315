#include "core/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace freshet {
namespace {

Error SystemError(const std::filesystem::path& path, const char* what, int code) {
  return Error(ErrorCode::kIo, path.string() + ": " + what + ": " + std::generic_category().message(code));
}

// 0 or errno.
int WriteAndSync(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return errno;
    if (count > 0) bytes.remove_prefix(static_cast<size_t>(count));
  }
  return fsync(descriptor) == 0 ? 0 : errno;
}

}  // namespace

Status ReplaceFile(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path fresh = path.string() + ".new";
  const int descriptor = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(fresh, "cannot create", errno);
  int failure = WriteAndSync(descriptor, content);
  if (close(descriptor) != 0 && failure == 0) failure = errno;
  if (failure != 0) return SystemError(fresh, "cannot write", failure);
  if (rename(fresh.c_str(), path.c_str()) != 0) return SystemError(path, "cannot replace", errno);
  return {};
}

Status SyncFolder(const std::filesystem::path& folder) {
  const int descriptor = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(folder, "cannot open", errno);
  const int failure = fsync(descriptor) == 0 ? 0 : errno;
  close(descriptor);
  return failure == 0 ? Status() : SystemError(folder, "cannot sync", failure);
}

}  // namespace freshet
