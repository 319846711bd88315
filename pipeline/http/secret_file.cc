#include "pipeline/http/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace freshet::http {
namespace {

constexpr off_t kMaxBytes = off_t{1} << 20;

Error Refused(const std::string& path, const std::string& why) {
  return Error(ErrorCode::kInvalidArgument, path + ": " + why);
}

Result<std::string> Read(int file, const std::string& path, Secrecy secrecy) {
  struct stat status {};
  if (fstat(file, &status) != 0) return Refused(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return Refused(path, "expected a file");
  if (status.st_size > kMaxBytes) return Refused(path, "expected at most 1 MiB");
  if (secrecy == Secrecy::kSecret && (status.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(status.st_mode) & 07777U);
    return Refused(path, std::string("mode ") + mode +
                             " lets others read or change a secret; expected 0600, or 0640 for a service's group");
  }
  std::string text;
  char bytes[4096];
  ssize_t count = 0;
  while ((count = read(file, bytes, sizeof bytes)) > 0 && text.size() <= static_cast<size_t>(kMaxBytes)) {
    text.append(bytes, static_cast<size_t>(count));
  }
  if (count < 0) return Refused(path, std::strerror(errno));
  return text;
}

}  // namespace

Result<std::string> ReadCredentialFile(const std::string& path, Secrecy secrecy) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return Refused(path, std::strerror(errno));
  auto text = Read(file, path, secrecy);
  close(file);
  return text;
}

}  // namespace freshet::http
