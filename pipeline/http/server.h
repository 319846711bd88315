// A small HTTP/1.1 server on one thread of its own, for a handful of clients that may be slow or hostile.
//
// Guarantees: whatever clients do, memory is bounded by max_connections times (16 KiB + max_body_bytes + one answer),
// and each request, answer and idle spell by a time. Requests of a connection are answered one at a time, in order; the
// next is not read before the answer is written. At max_connections the connection that has waited longest for (the
// rest of) a request gives way to the new one; where all are being answered, the new one is closed.
// The server itself answers 400 (not HTTP), 413, 414, 431 and 504 (no answer in time), as application/problem+json, and
// HEAD like GET without the body. A request that stays incomplete past its time is closed without an answer.
// Threads: the handler runs on the server's thread and must not block; the answer may come from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace freshet::http {

struct Request {
  std::string method;  // as sent, but GET for HEAD
  std::string path;    // as sent: still percent-encoded, without the query
  std::string query;   // after '?', still percent-encoded
  std::string body;
  // Headers as sent; empty: not there.
  std::string host = {};
  std::string origin = {};  // the page that a browser sends this for
  std::string authorization = {};
  std::string if_none_match = {};
};

struct Response {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// An error as application/problem+json (RFC 9457): type, title, status, detail.
Response Problem(int status, std::string_view detail);

// Answers the request that it came with. Call it once, at any time, from any thread: late calls, after the timeout or
// after the server is gone, are ignored. A copy keeps some memory of the server, not its connections.
using Respond = std::function<void(Response)>;
using Handler = std::function<void(const Request&, Respond)>;

struct ServerOptions {
  std::string listen = "127.0.0.1:8080";  // host:port; port 0 picks a free one; IPv6 as [::1]:8080
  size_t max_connections = 256;
  uint32_t max_header_bytes = 8 * 1024;
  size_t max_body_bytes = 64 * 1024;
  std::chrono::milliseconds read_timeout{10'000};   // a request, from its first byte (or the connection) to its last
  std::chrono::milliseconds idle_timeout{60'000};   // between an answer and the next request's first byte
  std::chrono::milliseconds write_timeout{10'000};  // an answer
  std::chrono::milliseconds answer_timeout{2'000};  // from request to the handler's answer
  std::function<void(int status)> on_response;      // told of every answer, on the server's thread; may be empty
};

class Server {
 public:
  // Binds and begins to serve. Errors name the address, e.g. "127.0.0.1:80: address already in use".
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, Handler handler);

  // Closes every connection, answered or not, and joins at once. The handler is not called afterwards.
  virtual ~Server() = default;

  virtual uint16_t port() const = 0;
};

}  // namespace freshet::http
