// What a server proves itself with and knows its clients by: bearer tokens (RFC 6750) and a TLS context, from files.
//
// The tokens' file has a line for each: its scopes behind commas, spaces, the token. Empty lines and those that begin
// with '#' say nothing.
//   # dashboard
//   read,write 5b1c…
//   admin      9d02…
// Tokens are kept and compared as SHA-256 digests, in a time that depends on their number alone. A file of secrets that
// other users may read or change, or its group change, is refused.
// Threads: none of its own; one user at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "pipeline/http/endpoint.h"
#include "pipeline/http/response.h"

namespace boost::asio::ssl {
class context;
}

namespace freshet::http {

struct Request;

// Refuses an endpoint that other machines reach without the tokens and the TLS that it takes then.
Status CheckReach(const Endpoint& endpoint);

class Credentials {
 public:
  // Errors name the file and what is wrong with it, never what is in it: a file that is not there, a line that is none,
  // a key that is not the certificate's, a certificate out of its time.
  static Result<Credentials> Load(const Endpoint& endpoint);

  // Loads anew where a file has changed since it was last looked at. What is wrong then is logged, and what was there
  // before stays.
  void Refresh();

  // 401 or 403 where the request needs a token and has none that will do. /healthz, /readyz and pages are everybody's;
  // of /metrics and /v1/, GET and /v1/rank take the scope read, DELETE admin, the rest write. 421 where there are no
  // tokens, nobody said that anonymous clients are fine, and Host is a name that may be another's.
  std::optional<Response> Refusal(const Request& request) const;

  // Nothing: plain HTTP. Connections may keep it.
  const std::shared_ptr<boost::asio::ssl::context>& tls() const { return tls_; }

 private:
  struct Token {
    std::array<unsigned char, 32> digest;
    unsigned scopes;
  };
  // Of a file, changed when it is written or replaced.
  using Stamp = std::array<int64_t, 4>;

  explicit Credentials(const Endpoint& endpoint) : endpoint_(endpoint) {}
  Status LoadTokens();
  Status ParseTokens(std::string_view text);
  Status AddToken(std::string_view line, const std::string& where);
  Status LoadTls();
  std::array<Stamp, 3> Stamps() const;
  unsigned ScopesOf(std::string_view token) const;

  Endpoint endpoint_;
  std::array<Stamp, 3> seen_{};
  std::vector<Token> tokens_;
  std::shared_ptr<boost::asio::ssl::context> tls_;
};

}  // namespace freshet::http
