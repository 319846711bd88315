// A small HTTP/1.1 server on one thread of its own, for a handful of clients that may be slow or hostile.
//
// Guarantees: whatever clients do, memory is bounded by max_connections times (16 KiB + max_body_bytes + one answer,
// and with TLS some 100 KiB), and each handshake, request, answer and idle spell by a time. Requests of a connection
// are answered one at a time, in order; the next is not read before the answer is written. At max_connections the
// connection that has waited longest for (the rest of) a request gives way to the new one; where all are being
// answered, the new one is closed. The server itself answers 400 (not HTTP), 401 and 403 (credentials.h), 413, 414, 431
// and 504 (no answer in time), as application/problem+json, and HEAD like GET without the body. A request that stays
// incomplete past its time is closed without an answer. An answer that is a stream (event_stream.h) keeps its
// connection until the client goes away, sends something, or does not take what is sent within write_timeout; at
// max_streams a further one is 503. Threads: the handler runs on the server's thread and must not block; the answer may
// come from any thread.
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
#include "pipeline/http/endpoint.h"
#include "pipeline/http/response.h"

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
  std::string last_event_id = {};  // of the event that a stream's client had last
  // Valid or not; of several `traceparent` none, of several `tracestate` a list.
  std::string traceparent = {};
  std::string tracestate = {};
};

// Answers the request that it came with. Call it once, at any time, from any thread: late calls, after the timeout or
// after the server is gone, are ignored. A copy keeps some memory of the server, not its connections.
using Respond = std::function<void(Response)>;
using Handler = std::function<void(const Request&, Respond)>;

struct ServerOptions : Endpoint {
  size_t max_connections = 256;
  size_t max_streams = 128;  // of the connections, so that some are left for other requests
  uint32_t max_header_bytes = 8 * 1024;
  size_t max_body_bytes = 64 * 1024;
  std::chrono::milliseconds read_timeout{
      10'000};  // a TLS handshake; a request, from its first byte (or the connection) to its last
  std::chrono::milliseconds idle_timeout{60'000};         // between an answer and the next request's first byte
  std::chrono::milliseconds write_timeout{10'000};        // an answer, or a part of a stream
  std::chrono::milliseconds keep_alive_interval{15'000};  // a stream without events sends a comment
  std::chrono::milliseconds answer_timeout{2'000};        // from request to the handler's answer
  std::chrono::milliseconds refresh_interval{10'000};     // looks whether tokens or certificate have changed
  std::function<void(int status)> on_response;            // told of every answer, on the server's thread; may be empty
};

// What Start() says of the address without a look at the machine: nothing of a host's name, which has to be resolved.
Status CheckAddress(const Endpoint& endpoint);

class Server {
 public:
  // Binds and begins to serve. Errors name the address, e.g. "127.0.0.1:80: address already in use", or "http.…", the
  // file and what is wrong with it. Other machines are let in as Endpoint says, or not at all: kInvalidArgument.
  static Result<std::unique_ptr<Server>> Start(ServerOptions options, Handler handler);

  // Ends streams, waiting up to 200 ms for clients to take that, closes every connection, answered or not, and joins.
  // The handler is not called afterwards.
  virtual ~Server() = default;

  virtual uint16_t port() const = 0;
};

}  // namespace freshet::http
