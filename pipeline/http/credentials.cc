#include "pipeline/http/credentials.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>

#include "pipeline/http/secret_file.h"
#include "pipeline/http/server.h"
#include "pipeline/http/tls.h"

namespace freshet::http {
namespace {

// Scopes, a bit each.
constexpr unsigned kReadScope = 1;
constexpr unsigned kWriteScope = 2;
constexpr unsigned kAdminScope = 4;

constexpr size_t kMinToken = 16;
constexpr size_t kMaxToken = 512;
constexpr size_t kMaxTokens = 1000;

std::array<unsigned char, 32> Digest(std::string_view text) {
  std::array<unsigned char, 32> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

// RFC 6750, 2.1: what may stand behind "Bearer ".
bool IsToken(std::string_view text) {
  return text.size() >= kMinToken && text.size() <= kMaxToken && std::all_of(text.begin(), text.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  std::string_view("-._~+/=").find(c) != std::string_view::npos;
         });
}

// "read,write"; 0 where it is no such list.
unsigned ParseScopes(std::string_view list) {
  unsigned scopes = 0;
  while (true) {
    const std::string_view word = list.substr(0, list.find(','));
    const unsigned scope = word == "read"    ? kReadScope
                           : word == "write" ? kWriteScope
                           : word == "admin" ? kAdminScope
                                             : 0;
    if (scope == 0) return 0;
    scopes |= scope;
    if (word.size() == list.size()) return scopes;
    list.remove_prefix(word.size() + 1);
  }
}

// 0: none is needed.
unsigned NeededScope(const Request& request) {
  const bool ours = request.path == "/metrics" || request.path.starts_with("/v1/");
  if (!ours) return 0;
  if (request.method == "GET" || request.path == "/v1/rank") return kReadScope;
  return request.method == "DELETE" ? kAdminScope : kWriteScope;
}

std::string_view NameOf(unsigned scope) {
  return scope == kReadScope ? "read" : scope == kWriteScope ? "write" : "admin";
}

// What follows "Bearer ", in whatever case; nothing where it is another scheme.
std::optional<std::string_view> BearerOf(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return std::nullopt;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(authorization[i])) != kScheme[i]) return std::nullopt;
  }
  authorization.remove_prefix(std::min(authorization.find_first_not_of(' ', kScheme.size()), authorization.size()));
  return authorization;
}

// A name that its owner lets point to this machine would make a page of theirs one of this server's, to a browser here
// (DNS rebinding). An address is no name, and localhost is nobody's (RFC 6761, 6.3). Programs of old send no host.
bool IsSafeHost(std::string host) {
  const size_t port = host.find(':', host.find(']') == std::string::npos ? 0 : host.find(']'));
  host.resize(std::min(port, host.size()));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::transform(host.begin(), host.end(), host.begin(), [](unsigned char c) { return std::tolower(c); });
  boost::system::error_code is_name;
  boost::asio::ip::make_address(host, is_name);
  return !is_name || host.empty() || host == "localhost" || host.ends_with(".localhost");
}

Response Challenge(int status, const std::string& detail, const std::string& parameters) {
  Response response = Problem(status, detail);
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"freshet\"" + parameters);
  return response;
}

}  // namespace

Status CheckReach(const Endpoint& endpoint) {
  std::string missing;
  if (endpoint.tokens_file.empty() && !endpoint.allow_anonymous) {
    missing =
        "; without a token: set http.tokens_file, or http.allow_anonymous=true where a firewall or a proxy keeps "
        "others "
        "out";
  }
  if (endpoint.tls_certificate.empty() && !endpoint.allow_plaintext) {
    missing +=
        "; without TLS: set http.tls.certificate and http.tls.key, or http.allow_plaintext=true where a proxy ends TLS "
        "or nobody listens in";
  }
  if (missing.empty()) return {};
  return Error(ErrorCode::kInvalidArgument,
               endpoint.listen + ": other machines could ask" + missing + "; or listen on 127.0.0.1");
}

Result<Credentials> Credentials::Load(const Endpoint& endpoint) {
  if (endpoint.tls_certificate.empty() != endpoint.tls_key.empty()) {
    return Error(ErrorCode::kInvalidArgument, "http.tls: expected both certificate and key, or neither");
  }
  Credentials credentials(endpoint);
  credentials.seen_ = credentials.Stamps();
  RETURN_IF_ERROR(credentials.LoadTokens());
  RETURN_IF_ERROR(credentials.LoadTls());
  return credentials;
}

void Credentials::Refresh() {
  const auto stamps = Stamps();
  if (stamps == seen_) return;
  auto anew = Load(endpoint_);
  if (anew.ok()) {
    *this = std::move(anew).value();
    spdlog::info("http: tokens and certificate are loaded anew");
  } else {
    seen_ = stamps;  // and once more when a file changes again: a certificate comes before its key
    spdlog::error("{}; going on with the tokens and the certificate from before", anew.error().message());
  }
}

std::array<Credentials::Stamp, 3> Credentials::Stamps() const {
  std::array<Stamp, 3> stamps{};
  const std::array<const std::string*, 3> files = {&endpoint_.tokens_file, &endpoint_.tls_certificate,
                                                   &endpoint_.tls_key};
  for (size_t i = 0; i < files.size(); ++i) {
    struct stat status {};
    if (files[i]->empty() || stat(files[i]->c_str(), &status) != 0) continue;
    stamps[i] = {static_cast<int64_t>(status.st_ino), status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  }
  return stamps;
}

Status Credentials::LoadTokens() {
  if (endpoint_.tokens_file.empty()) return {};
  const auto text = ReadCredentialFile(endpoint_.tokens_file, Secrecy::kSecret);
  if (!text.ok()) return text.error().At("http.tokens_file");
  const Status parsed = ParseTokens(*text);
  return parsed.ok() ? parsed : parsed.error().At("http.tokens_file");
}

Status Credentials::ParseTokens(std::string_view text) {
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.empty() || line.front() == '#') continue;
    RETURN_IF_ERROR(AddToken(line, endpoint_.tokens_file + ":" + std::to_string(number)));
  }
  if (tokens_.empty()) return Error(ErrorCode::kInvalidArgument, endpoint_.tokens_file + ": expected a token");
  return {};
}

Status Credentials::AddToken(std::string_view line, const std::string& where) {
  const auto wrong = [&](const std::string& what) { return Error(ErrorCode::kInvalidArgument, where + ": " + what); };
  const size_t space = std::min(line.find_first_of(" \t"), line.size());
  const unsigned scopes = ParseScopes(line.substr(0, space));
  std::string_view token = line.substr(std::min(line.find_first_not_of(" \t", space), line.size()));
  token = token.substr(0, token.find_last_not_of(" \t") + 1);
  if (scopes == 0 || token.empty()) {
    return wrong("expected scopes (read, write, admin, with commas between them), a space and a token");
  }
  if (!IsToken(token)) {
    return wrong("the token: expected 16 to 512 letters, digits and -._~+/=, as openssl rand -hex 32 makes them");
  }
  const auto digest = Digest(token);
  if (std::any_of(tokens_.begin(), tokens_.end(), [&](const Token& other) { return other.digest == digest; })) {
    return wrong("the token stands in a line before");
  }
  if (tokens_.size() == kMaxTokens) return wrong("expected at most 1000 tokens");
  tokens_.push_back({digest, scopes});
  return {};
}

Status Credentials::LoadTls() {
  if (endpoint_.tls_certificate.empty()) return {};
  auto context = MakeTlsContext(endpoint_.tls_certificate, endpoint_.tls_key);
  if (!context.ok()) return context.error().At("http.tls");
  tls_ = std::move(context).value();
  return {};
}

unsigned Credentials::ScopesOf(std::string_view token) const {
  const auto digest = Digest(token);
  unsigned scopes = 0;
  for (const Token& known : tokens_) {
    if (CRYPTO_memcmp(known.digest.data(), digest.data(), digest.size()) == 0) scopes = known.scopes;
  }
  return scopes;
}

std::optional<Response> Credentials::Refusal(const Request& request) const {
  const unsigned needed = NeededScope(request);
  if (needed == 0) return std::nullopt;
  if (tokens_.empty()) {
    if (endpoint_.allow_anonymous || IsSafeHost(request.host)) return std::nullopt;
    return Problem(421, "\"" + request.host +
                            "\": expected an address or localhost as the host where nobody is asked "
                            "for a token; other names need http.tokens_file, or http.allow_anonymous=true");
  }
  const auto token = BearerOf(request.authorization);
  if (!token) return Challenge(401, "expected the header Authorization: Bearer and a token", "");
  const unsigned scopes = ScopesOf(*token);
  if (scopes == 0) return Challenge(401, "the token is not known here", ", error=\"invalid_token\"");
  if ((scopes & needed) != 0) return std::nullopt;
  const std::string scope(NameOf(needed));
  return Challenge(403, "the token has not the scope " + scope,
                   ", error=\"insufficient_scope\", scope=\"" + scope + "\"");
}

}  // namespace freshet::http
