#include "pipeline/dashboard/files.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/hash.h"
#include "pipeline/dashboard/embedded.h"

namespace freshet {
namespace {

constexpr std::string_view kFolder = "/dashboard/";
constexpr std::string_view kIndex = "index.html";
// Nothing but this program's own files and answers, in no other page's frame. Charts set their styles through the DOM.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri "
    "'none'; "
    "frame-ancestors 'none'; form-action 'none'";

std::string_view TypeOf(std::string_view name) {
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  return "text/html; charset=utf-8";
}

struct File {
  std::string path;
  std::string_view content;
  std::string etag;
};

const std::vector<File>& Files() {
  static const std::vector<File> files = [] {
    std::vector<File> all;
    for (const EmbeddedFile& embedded : EmbeddedFiles()) {
      char etag[20];
      std::snprintf(etag, sizeof(etag), "\"%016llx\"", static_cast<unsigned long long>(StableHash(embedded.content)));
      all.push_back(
          {embedded.name == kIndex ? "/" : std::string(kFolder).append(embedded.name), embedded.content, etag});
    }
    return all;
  }();
  return files;
}

const File* Find(std::string_view path) {
  const auto found = std::ranges::find(Files(), path, &File::path);
  return found == Files().end() ? nullptr : &*found;
}

}  // namespace

bool IsDashboardFile(std::string_view path) { return Find(path) != nullptr; }

http::Response DashboardFile(const http::Request& request) {
  const File* const file = Find(request.path);
  if (file == nullptr) return http::Problem(404, "nothing is at " + request.path);
  http::Response response;
  response.content_type = TypeOf(file->path);
  // The next version of the program has other files of the same names: a browser asks whether its copy is the newest.
  response.headers = {{"ETag", file->etag},
                      {"Cache-Control", "no-cache"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Content-Security-Policy", kPolicy},
                      {"Referrer-Policy", "no-referrer"}};
  const bool known = request.if_none_match == "*" || request.if_none_match.find(file->etag) != std::string::npos;
  response.status = known ? 304 : 200;
  if (!known) response.body = file->content;
  return response;
}

}  // namespace freshet
