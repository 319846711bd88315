// A server's TLS context.
#pragma once

#include <memory>
#include <string>

#include "core/result.h"

namespace boost::asio::ssl {
class context;
}

namespace freshet::http {

// TLS 1.2 and later, no renegotiation, with the certificate chain and key of two PEM files. Errors name the file: not
// there, not PEM, a key with a passphrase or of another certificate, a certificate before or after its time.
Result<std::shared_ptr<boost::asio::ssl::context>> MakeTlsContext(const std::string& certificate_file,
                                                                  const std::string& key_file);

}  // namespace freshet::http
