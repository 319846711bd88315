// A blocking HTTP client on a bare socket, which can also misbehave as a test needs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace freshet {

struct HttpAnswer {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

class HttpClient {
 public:
  // Connects; every wait for bytes ends after 20 s as if the server had closed.
  explicit HttpClient(uint16_t port, const std::string& host = "127.0.0.1");
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }

  // False where the server no longer takes bytes.
  bool Send(std::string_view bytes);

  // The next answer; nothing where the server closed first. `head`: it has no body.
  std::optional<HttpAnswer> Receive(bool head = false);
  std::optional<HttpAnswer> Get(const std::string& target);

  // What comes up to and with `mark`; nothing where the server closed first.
  std::optional<std::string> ReceiveUntil(std::string_view mark);

  // Whether the server has closed, waiting for it; what it sends until then is dropped.
  bool WaitForClose();

  // Says that no more comes; all that the server sends until it closes, or nothing where it does not close.
  std::optional<std::string> ReceiveAll();

  // Closes with a reset.
  void Abort();

 private:
  bool Fill();  // reads some bytes

  int socket_ = -1;
  bool connected_ = false;
  std::string input_;
};

// One answer to one request, on a connection of its own.
std::optional<HttpAnswer> HttpExchange(uint16_t port, std::string_view request);
std::optional<HttpAnswer> HttpGet(uint16_t port, const std::string& target);

}  // namespace freshet
