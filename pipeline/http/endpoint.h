// Where a server listens, and who may ask it (the configuration's `http`).
#pragma once

#include <string>

namespace freshet::http {

// On an address that other machines reach, tokens and TLS are both needed, or what says that they are not.
struct Endpoint {
  std::string listen = "127.0.0.1:8080";  // host:port; port 0 picks a free one; IPv6 as [::1]:8080
  std::string advertise;                  // host:port where other machines reach it; empty: they are not told
  std::string tokens_file;                // bearer tokens, as in credentials.h; empty: nobody is asked for one
  std::string tls_certificate;            // PEM file, the chain from the server's own upwards; empty: plain HTTP
  std::string tls_key;                    // PEM file of its private key
  bool allow_anonymous = false;           // other machines may ask without a token
  bool allow_plaintext = false;           // other machines may ask without TLS
};

}  // namespace freshet::http
