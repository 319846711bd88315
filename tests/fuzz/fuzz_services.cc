#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ingest/event_fields.h"
#include "pipeline/config.h"
#include "pipeline/control_plane.h"
#include "pipeline/http/credentials.h"
#include "pipeline/http/server.h"
#include "pipeline/http/target.h"
#include "pipeline/item_titles.h"
#include "pipeline/snapshot_file.h"
#include "state/snapshot.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/pipeline/http/client.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

using namespace std::string_view_literals;

// A file with `bytes`; the same path each time.
std::string File(std::string_view bytes) {
  static const TemporaryDirectory directory;
  static const std::string path = (directory.path() / "input").string();
  WriteFile(path, bytes);
  return path;
}

// A line for --set, and behind it the file.
void Configuration(std::string_view bytes) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  ConfigInput input;
  if (end > 0) input.sets.emplace_back(bytes.substr(0, end));
  input.file = File(bytes.substr(std::min(end + 1, bytes.size())));
  const ConfigResult result = LoadConfig(input);
  for (const std::string& line : result.problems.lines) Require(!line.empty(), "a problem says what it is");
  if (!result.problems.lines.empty()) return;
  const std::string printed = PrintConfig(result.config);
  const ConfigResult again = LoadConfig({.file = File(printed), .sets = {}, .environment = {}});
  Require(again.problems.lines.empty(), "what was printed is a configuration");
  Require(PrintConfig(again.config) == printed, "and the same one");
}

void HttpTokens(std::string_view bytes) {
  http::Endpoint endpoint;
  endpoint.tokens_file = File(bytes);
  const auto credentials = http::Credentials::Load(endpoint);
  if (!credentials.ok()) return Require(!credentials.error().message().empty(), "an error says why");
  http::Request request;
  request.method = "GET";
  request.path = "/v1/status";
  Require(credentials->Refusal(request).has_value(), "nobody comes in without a token");
}

void HttpTarget(std::string_view bytes) {
  if (const auto decoded = http::PercentDecode(bytes)) {
    Require(decoded->size() <= bytes.size(), "decoding makes no text longer");
    if (bytes.find('%') == bytes.npos) Require(*decoded == bytes, "what is not encoded stays");
  }
  const auto value = http::Parameter(bytes, "k");
  Require(!value || value->find('&') == value->npos, "a parameter ends at the next");
}

void ItemsFile(std::string_view bytes) {
  const auto items = ItemTitles::Load(File(bytes));
  Require(items.ok() ? items->size() <= bytes.size() : !items.error().message().empty(), "items or an error");
}

// The one partition of a snapshot directory.
void SnapshotFile(std::string_view bytes) {
  static const TemporaryDirectory directory;
  static const bool prepared = [] {
    spdlog::set_level(spdlog::level::off);
    WriteFile(directory.path() / "CONTENTS", "whole\n");
    return true;
  }();
  Require(prepared, "a directory");
  WriteFile(directory.path() / "partition-00000.snapshot.zst", bytes);
  const auto files = SnapshotFiles::Find(directory.path(), {.whose = "a", .partitions = 1});
  if (!files.ok()) return Require(!files.error().message().empty(), "an error says why");
  const auto file = files->Read(PartitionId{0}).value();
  RecordBatch batch;
  while (file->Poll(batch, 1, {}).value() != PollState::kEnd) {
    Require(DecodeSnapshot(batch.records.back().key, batch.records.back().value).ok(), "what was whole stays whole");
  }
  Require(IsWatermarkKey(batch.records.back().key), "the last is the watermark");
}

// What a client sends on one connection, to a control plane without workers.
class ControlPlaneUnderTest {
 public:
  ControlPlaneUnderTest() {
    queries_.Close(0);
    ControlPlaneOptions options;
    options.listen = "127.0.0.1:0";
    options.take_event = [](std::string_view body, const TraceContext&,
                            const std::function<void(Result<EventReceipt>)>& done) {
      if (body.empty()) return done(Error(ErrorCode::kInvalidArgument, "nothing"));
      done(EventReceipt{1, 2});
    };
    plane_ = ControlPlane::Start(options, readiness_, *metrics_, queries_).value();
  }

  uint16_t port() const { return plane_->port(); }

 private:
  Readiness readiness_;
  LiveQueries queries_{1};
  std::unique_ptr<Metrics> metrics_ = Metrics::Make("0", {"model", "0"});
  std::unique_ptr<ControlPlane> plane_;
};

void HttpConnection(std::string_view bytes) {
  static const ControlPlaneUnderTest plane;
  HttpClient client(plane.port());
  Require(client.connected(), "the server takes connections");
  client.Send(bytes);  // it may have closed before the last of them
  const std::optional<std::string> answers = client.ReceiveAll();
  Require(answers.has_value(), "a connection whose client says no more ends");
  Require(answers->empty() || answers->starts_with("HTTP/1.1 "), "answers are HTTP");
  Require(!answers->starts_with("HTTP/1.1 500"), "no request is the server's fault");
  Require(IsValidUtf8(*answers), "answers are UTF-8");
}

constexpr std::string_view kConfigSeeds[] = {
    "state.history=5\napplication: shop\nkafka: {bootstrap_servers: \"a:1,[::1]:2\", properties: {sasl.password: x}}\n"
    "source:\n  format: csv\n  mapping: {user_id: {path: /u}, timestamp: {unit: iso8601}}\nprocessing: {workers: 2}\n"sv,
    "http.listen=127.0.0.1:0\n# none\n---\nstate: &a {hot_cache: 512MiB, keep_lost: 1h}\nlog: {level: 'info'}\n"sv,
    "sink.format=protobuf\nsource:\n  mapping:\n    event_type:\n      constant: view\n      map: {1: click}\n"sv};
constexpr std::string_view kTokenSeeds[] = {
    "# dashboard\nread,write 5b1c0f3e5b1c0f3e5b1c0f3e5b1c0f3e\n\nadmin 9d029d029d029d029d029d029d029d02\n"sv};
constexpr std::string_view kTargetSeeds[] = {"k=3&ids=a%2Cb,c"sv, "%E2%82%ac%zz"sv};
constexpr std::string_view kItemSeeds[] = {
    "{\"item_id\":\"i1\",\"title\":\"One\",\"category\":\"numbers\"}\n\n{\"item_id\":2}\n"sv};
// A user, one who was forgotten, and the watermark, by pipeline/snapshot_file.h.
constexpr std::string_view kSnapshotFileSeeds[] = {
    "freshet-snapshot 1: partition 0 of 1, a\n"
    "\003\000\000\000\007\000\000\000uab\001\257\212\326;cd"
    "\012\000\000\000\005\000\000\000uforgotten\001\025V\031\245"
    "\002\000\000\000\016\000\000\000ma\001\23296\220\007\000\000\000\000\000\000\000a"sv};
constexpr std::string_view kConnectionSeeds[] = {
    "GET /v1/recommendations/u%201?k=3 HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"sv,
    "POST /v1/rank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n{\"user_id\":\"u\",\"items\":[\"i\",1]}"sv,
    "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{ }\r\n0\r\n\r\n"sv,
    "GET http://x/v1/items?ids=a,b%2C HTTP/1.0\r\nAuthorization: Bearer a\r\nConnection: keep-alive\r\n\r\n"sv,
    "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"sv};

constexpr FuzzTarget kTargets[] = {
    {"configuration", Configuration, kConfigSeeds},      {"http_tokens", HttpTokens, kTokenSeeds},
    {"http_target", HttpTarget, kTargetSeeds},           {"items_file", ItemsFile, kItemSeeds},
    {"snapshot_file", SnapshotFile, kSnapshotFileSeeds}, {"http_connection", HttpConnection, kConnectionSeeds}};

}  // namespace

std::span<const FuzzTarget> ServiceTargets() { return kTargets; }

std::vector<FuzzTarget> FuzzTargets() {
  std::vector<FuzzTarget> all(StreamTargets().begin(), StreamTargets().end());
  all.insert(all.end(), ServiceTargets().begin(), ServiceTargets().end());
  return all;
}

void WriteFile(const std::filesystem::path& path, std::string_view begin, std::string_view rest) {
  std::filesystem::remove(path);  // some file systems make sure of what is written over another file: milliseconds
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
  bool written = file >= 0;
  for (const std::string_view part : {begin, rest}) {
    written = written && write(file, part.data(), part.size()) == static_cast<ssize_t>(part.size());
  }
  Require(written && close(file) == 0, "a temporary file");
}

void Require(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  abort();
}

}  // namespace freshet
