// Small files that hold credentials.
#pragma once

#include <string>

#include "core/result.h"

namespace freshet::http {

enum class Secrecy { kPublic, kSecret };

// The content of a regular file of at most 1 MiB. A secret one must not be open to other users, nor to be changed by
// its group, as ssh has it for keys. Errors name the file.
Result<std::string> ReadCredentialFile(const std::string& path, Secrecy secrecy);

}  // namespace freshet::http
