// The dashboard at / and /dashboard/: a page, its style and its scripts, which are in the program (docs/dashboard.md).
//
// Besides the files of this folder there are two of Debian's packages, taken as they are when the program is built:
// Chart.js and Bootstrap's reboot. The page loads nothing from elsewhere, and its Content-Security-Policy says so.
// Threads: any.
#pragma once

#include <optional>
#include <string_view>

#include "pipeline/http/server.h"

namespace freshet {

// Whether `path` is one of its files.
bool IsDashboardFile(std::string_view path);

// The answer to a GET of one of them: 304 where If-None-Match has its ETag, a hash of its content.
http::Response DashboardFile(const http::Request& request);

}  // namespace freshet
