#include "tests/pipeline/http/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

namespace freshet {

HttpClient::HttpClient(uint16_t port, const std::string& host) {
  const bool v6 = host.find(':') != std::string::npos;
  socket_ = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  const timeval patience{20, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_in v4_address{};
  v4_address.sin_family = AF_INET;
  v4_address.sin_port = htons(port);
  sockaddr_in6 v6_address{};
  v6_address.sin6_family = AF_INET6;
  v6_address.sin6_port = htons(port);
  inet_pton(v6 ? AF_INET6 : AF_INET, host.c_str(),
            v6 ? static_cast<void*>(&v6_address.sin6_addr) : static_cast<void*>(&v4_address.sin_addr));
  connected_ =
      connect(socket_, v6 ? reinterpret_cast<sockaddr*>(&v6_address) : reinterpret_cast<sockaddr*>(&v4_address),
              v6 ? sizeof v6_address : sizeof v4_address) == 0;
}

HttpClient::~HttpClient() {
  if (socket_ >= 0) close(socket_);
}

bool HttpClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool HttpClient::Fill() {
  char bytes[4096];
  const ssize_t count = recv(socket_, bytes, sizeof bytes, 0);
  if (count <= 0) return false;
  input_.append(bytes, static_cast<size_t>(count));
  return true;
}

std::optional<HttpAnswer> HttpClient::Receive(bool head) {
  size_t end = 0;
  while ((end = input_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) return std::nullopt;
  }
  HttpAnswer answer;
  answer.status = std::atoi(input_.c_str() + std::strlen("HTTP/1.1 "));
  for (size_t line = input_.find("\r\n") + 2; line < end + 2; line = input_.find("\r\n", line) + 2) {
    const size_t colon = input_.find(':', line);
    std::string name = input_.substr(line, colon - line);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    answer.headers[name] = input_.substr(colon + 2, input_.find("\r\n", line) - colon - 2);
  }
  input_.erase(0, end + 4);
  const auto stated = answer.headers.find("content-length");
  const bool has_body = !head && stated != answer.headers.end();
  const size_t length = has_body ? std::strtoul(stated->second.c_str(), nullptr, 10) : 0;
  while (input_.size() < length) {
    if (!Fill()) return std::nullopt;
  }
  answer.body = input_.substr(0, length);
  input_.erase(0, length);
  return answer;
}

std::optional<HttpAnswer> HttpClient::Get(const std::string& target) {
  if (!Send("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n")) return std::nullopt;
  return Receive();
}

std::optional<std::string> HttpClient::ReceiveUntil(std::string_view mark) {
  size_t searched = 0;
  size_t found = 0;
  while ((found = input_.find(mark, searched)) == std::string::npos) {
    searched = input_.size() - std::min(input_.size(), mark.size());
    if (!Fill()) return std::nullopt;
  }
  const std::string text = input_.substr(0, found + mark.size());
  input_.erase(0, text.size());
  return text;
}

bool HttpClient::WaitForClose() {
  char bytes[4096];
  ssize_t count = 0;
  while ((count = recv(socket_, bytes, sizeof bytes, 0)) > 0) {
  }
  return count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

std::optional<std::string> HttpClient::ReceiveAll() {
  shutdown(socket_, SHUT_WR);
  errno = 0;  // which the end leaves as it is
  while (Fill()) continue;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
  return std::move(input_);
}

void HttpClient::Abort() {
  const linger hard{1, 0};
  setsockopt(socket_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(socket_);
  socket_ = -1;
}

std::optional<HttpAnswer> HttpExchange(uint16_t port, std::string_view request) {
  HttpClient client(port);
  if (!client.Send(request)) return std::nullopt;
  return client.Receive();
}

std::optional<HttpAnswer> HttpGet(uint16_t port, const std::string& target) { return HttpClient(port).Get(target); }

}  // namespace freshet
