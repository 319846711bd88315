// Files that outlive a loss of power. Thread-safe.
#pragma once

#include <filesystem>
#include <string_view>

#include "core/result.h"

namespace freshet {

// Replaces `path` (by `path`.new) so that it holds the old content or the new, whatever happens; which of them after a
// loss of power is only certain after SyncFolder(). kIo names the path.
Status ReplaceFile(const std::filesystem::path& path, std::string_view content);

// Makes what was created, renamed or removed in `folder` durable.
Status SyncFolder(const std::filesystem::path& folder);

}  // namespace freshet
