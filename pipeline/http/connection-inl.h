// One client of the server, and what all of them share; for server.cc and connection.cc alone.
#pragma once

#ifdef __SANITIZE_THREAD__
#define BOOST_ASIO_DISABLE_FENCED_BLOCK  // g++ refuses fences there; the io_context's mutex orders its handlers anyway
#endif

#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "pipeline/http/credentials.h"
#include "pipeline/http/event_stream.h"
#include "pipeline/http/server.h"
#include "pipeline/http/transport-inl.h"

namespace freshet::http {

class Connection;

// What connections share. Answers still on their way keep it alive after the server is gone; its io_context is then
// stopped and runs nothing more. Handlers in the io_context may refer to it: they die with it.
struct Loop : std::enable_shared_from_this<Loop> {
  Loop(ServerOptions server_options, Handler server_handler, Credentials server_credentials)
      : options(std::move(server_options)),
        handler(std::move(server_handler)),
        credentials(std::move(server_credentials)) {}

  const ServerOptions options;
  const Handler handler;
  Credentials credentials;
  std::unordered_set<Connection*> connections;
  std::list<Connection*> receiving;  // those without a whole request, longest first
  size_t streams = 0;                // connections whose answer goes on
  bool stopping = false;             // once the last stream has ended
  boost::asio::io_context io{1};     // below what its handlers' destructors use
  boost::asio::ip::tcp::acceptor acceptor{io};
  boost::asio::steady_timer accept_retry{io};
  boost::asio::steady_timer refresh{io};   // of credentials
  boost::asio::steady_timer patience{io};  // with streams that end
};

// Lives as long as an operation of it is under way.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Loop& loop, boost::asio::ip::tcp::socket socket);
  ~Connection() { Forget(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Begin();
  void Close();
  // Of a stream, if there is one: tells the client that the answer is whole.
  void EndStream();

 private:
  using error_code = boost::system::error_code;

  void Forget();

  // Reading requests.
  void BeginReceiving() { place_ = loop_.receiving.insert(loop_.receiving.end(), this); }
  void EndReceiving();
  void Receive(std::chrono::milliseconds patience);
  void ReadHeader();
  void ParseHeader();
  void Continue();
  void ReadBody();
  void Refuse(error_code error);
  void Dispatch();
  void Misread(std::string_view detail);
  Request ToRequest();
  std::string Joined(const char* name);

  // Answering them.
  Respond Responder();
  void StartAnswerTimer();
  void Answer(uint64_t serial, Response response);
  void Send(Response response);
  void End();
  void Linger();
  void Drain();

  // Answers that go on.
  void BeginStream(std::shared_ptr<EventStream> events);
  void Watch();
  void Pull();
  void Write(std::string bytes);
  std::string Framed(const std::string& part) const;
  void StayAlive();
  void LeaveStream();

  Loop& loop_;
  Transport stream_;
  boost::beast::flat_buffer buffer_;  // a header, and what was read beyond it
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  boost::beast::http::response<boost::beast::http::string_body> response_;
  boost::asio::steady_timer timer_;  // for the answer; for the next sign of life in a stream
  size_t header_bytes_ = 0;          // parsed so far
  uint64_t serial_ = 0;              // of the request that is being answered
  bool awaiting_ = false;
  bool head_ = false;
  bool keep_alive_ = true;
  std::optional<std::list<Connection*>::iterator> place_;  // in Loop::receiving

  std::shared_ptr<EventStream> events_;
  std::string part_;        // of the stream, being written
  bool streaming_ = false;  // counts in Loop::streams
  bool chunked_ = false;
  bool writing_ = false;
  bool ending_ = false;
};

}  // namespace freshet::http
