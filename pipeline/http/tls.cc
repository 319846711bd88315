#include "pipeline/http/tls.h"

#ifdef __SANITIZE_THREAD__
#define BOOST_ASIO_DISABLE_FENCED_BLOCK
#endif

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "pipeline/http/secret_file.h"

namespace freshet::http {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

Error Refused(const std::string& file, const std::string& why) {
  return Error(ErrorCode::kInvalidArgument, file + ": " + why);
}

// "Dec 31 23:59:59 2025 GMT"
std::string Text(const ASN1_TIME* time) {
  BIO* const out = BIO_new(BIO_s_mem());
  ASN1_TIME_print(out, time);
  char* text = nullptr;
  const auto size = BIO_get_mem_data(out, &text);
  std::string printed(text, static_cast<size_t>(size));
  BIO_free(out);
  return printed;
}

Status CheckTime(SSL_CTX* context, const std::string& file) {
  const X509* const certificate = SSL_CTX_get0_certificate(context);
  const ASN1_TIME* const from = X509_get0_notBefore(certificate);
  const ASN1_TIME* const to = X509_get0_notAfter(certificate);
  if (X509_cmp_current_time(to) <= 0) return Refused(file, "the certificate expired on " + Text(to));
  if (X509_cmp_current_time(from) > 0) return Refused(file, "the certificate is valid from " + Text(from) + " only");
  return {};
}

// Instead of OpenSSL's own, which asks on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

}  // namespace

Result<std::shared_ptr<ssl::context>> MakeTlsContext(const std::string& certificate_file, const std::string& key_file) {
  ASSIGN_OR_RETURN(const std::string certificate, ReadCredentialFile(certificate_file, Secrecy::kPublic));
  ASSIGN_OR_RETURN(const std::string key, ReadCredentialFile(key_file, Secrecy::kSecret));
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* const handle = context->native_handle();
  SSL_CTX_set_min_proto_version(handle, TLS1_2_VERSION);
  SSL_CTX_set_options(handle, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(handle, SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
  SSL_CTX_set_default_passwd_cb(handle, NoPassphrase);
  error_code error;
  context->use_certificate_chain(boost::asio::buffer(certificate), error);
  ERR_clear_error();
  if (error) return Refused(certificate_file, "expected a certificate in PEM (" + error.message() + ")");
  RETURN_IF_ERROR(CheckTime(handle, certificate_file));
  context->use_private_key(boost::asio::buffer(key), ssl::context::pem, error);
  const bool other = ERR_GET_REASON(static_cast<unsigned long>(error.value())) == X509_R_KEY_VALUES_MISMATCH;
  ERR_clear_error();
  if (error && other) return Refused(key_file, "is not the key of the certificate in " + certificate_file);
  if (error) return Refused(key_file, "expected a private key in PEM, without a passphrase (" + error.message() + ")");
  if (SSL_CTX_check_private_key(handle) != 1) {
    ERR_clear_error();
    return Refused(key_file, "is not the key of the certificate in " + certificate_file);
  }
  return context;
}

}  // namespace freshet::http
