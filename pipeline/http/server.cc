#include "pipeline/http/server.h"

#include <spdlog/spdlog.h>

#ifdef __SANITIZE_THREAD__
#define BOOST_ASIO_DISABLE_FENCED_BLOCK  // g++ refuses fences there; the io_context's mutex orders its handlers anyway
#endif

#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <list>
#include <optional>
#include <thread>
#include <unordered_set>

#include "pipeline/http/address.h"
#include "pipeline/http/credentials.h"
#include "pipeline/http/response.h"
#include "pipeline/http/transport-inl.h"

namespace freshet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kReadBytes = 4096;
constexpr std::chrono::seconds kLingerTime{2};
constexpr std::chrono::milliseconds kAcceptRetry{100};

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
  asio::io_context io{1};            // below what its handlers' destructors use
  tcp::acceptor acceptor{io};
  asio::steady_timer accept_retry{io};
  asio::steady_timer refresh{io};  // of credentials
};

// One client. Lives as long as an operation of it is under way.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Loop& loop, tcp::socket socket)
      : loop_(loop),
        stream_(std::move(socket), loop.credentials.tls()),
        buffer_(loop.options.max_header_bytes + 2 * kReadBytes),
        answer_timer_(loop.io) {
    loop_.connections.insert(this);
  }
  ~Connection() { Forget(); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Begin() {
    if (!stream_.secure()) return Receive(loop_.options.read_timeout);
    BeginReceiving();
    stream_.tcp().expires_after(loop_.options.read_timeout);
    stream_.AsyncHandshake([self = shared_from_this()](error_code error) {
      self->EndReceiving();
      if (!error) self->Receive(self->loop_.options.read_timeout);
    });
  }

  // Waits for a request's first byte, at most `patience`; what was pipelined is there already.
  void Receive(std::chrono::milliseconds patience) {
    parser_.emplace();
    parser_->header_limit(loop_.options.max_header_bytes);
    parser_->body_limit(loop_.options.max_body_bytes);
    header_bytes_ = 0;
    head_ = false;
    BeginReceiving();
    stream_.tcp().expires_after(buffer_.size() > 0 ? loop_.options.read_timeout : patience);
    if (buffer_.size() > 0) return ParseHeader();
    ReadHeader();
  }

  void Close() {
    Forget();
    stream_.tcp().close();
  }

 private:
  void BeginReceiving() { place_ = loop_.receiving.insert(loop_.receiving.end(), this); }
  void EndReceiving() {
    if (place_) loop_.receiving.erase(*place_);
    place_.reset();
  }
  void Forget() {
    EndReceiving();
    loop_.connections.erase(this);
  }

  void ReadHeader() {
    stream_.async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code error, size_t bytes) {
      if (error) return;
      const bool first = self->header_bytes_ + self->buffer_.size() == 0;
      if (first) self->stream_.tcp().expires_after(self->loop_.options.read_timeout);
      self->buffer_.commit(bytes);
      self->ParseHeader();
    });
  }

  // Beast's header_limit holds for what is parsed at once; the sum over several reads is held here.
  void ParseHeader() {
    error_code error;
    const size_t parsed = parser_->put(buffer_.data(), error);
    buffer_.consume(parsed);
    header_bytes_ += parsed;
    if (error && error != wire::error::need_more) return Refuse(error);
    const size_t held = parser_->is_header_done() ? 0 : buffer_.size();
    if (header_bytes_ + held > loop_.options.max_header_bytes) return Refuse(wire::error::header_limit);
    if (!parser_->is_header_done()) return ReadHeader();
    head_ = parser_->get().method() == wire::verb::head;
    if (beast::iequals(parser_->get()[wire::field::expect], "100-continue")) return Continue();
    ReadBody();
  }

  void Continue() {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(kContinue), [self = shared_from_this()](error_code error, size_t) {
      if (!error) self->ReadBody();
    });
  }

  void ReadBody() {
    wire::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->Refuse(error);
      self->EndReceiving();
      self->Dispatch();
    });
  }

  // Answers a request that is none, and closes; a client that went away or stays silent is just left.
  void Refuse(error_code error) {
    EndReceiving();
    if (error == wire::error::partial_message) return;
    if (error.category() != make_error_code(wire::error::bad_method).category()) return;
    keep_alive_ = false;
    if (error == wire::error::body_limit) {
      Send(Problem(413, "the body is over " + std::to_string(loop_.options.max_body_bytes) + " bytes"));
    } else if (error == wire::error::header_limit) {
      const bool in_target = parser_->get().target().empty();
      Send(Problem(in_target ? 414 : 431, "the request's " + std::string(in_target ? "target" : "header") +
                                              " is over " + std::to_string(loop_.options.max_header_bytes) + " bytes"));
    } else {
      Send(Problem(400, error.message()));
    }
  }

  void Dispatch() {
    const auto& message = parser_->get();
    keep_alive_ = message.keep_alive();
    if (message.version() >= 11 && message.count(wire::field::host) != 1) return Misread("expected one Host header");
    const auto codings = message.count(wire::field::transfer_encoding);
    if (codings > 0 && (codings > 1 || message.version() < 11 ||
                        !beast::iequals(message[wire::field::transfer_encoding], "chunked"))) {
      return Misread("expected no Transfer-Encoding but chunked");  // another server might read another body
    }
    if (message.count(wire::field::authorization) > 1) return Misread("expected one Authorization header");
    awaiting_ = true;
    ++serial_;
    try {
      const Request request = ToRequest();
      if (auto refusal = loop_.credentials.Refusal(request)) return Answer(serial_, *std::move(refusal));
      loop_.handler(request, Responder());
    } catch (const std::exception& failure) {
      spdlog::error("http: {}", failure.what());
      Answer(serial_, Problem(500, "the request could not be handled"));
    }
    if (awaiting_) StartAnswerTimer();
  }

  void Misread(std::string_view detail) {
    keep_alive_ = false;
    Send(Problem(400, detail));
  }

  // The target in origin form, or (as to a proxy) in absolute form: http://host/path?query.
  Request ToRequest() {
    auto& message = parser_->get();
    std::string_view target(message.target().data(), message.target().size());
    if (target.starts_with("http://") || target.starts_with("https://")) {
      const size_t path = target.find('/', 8);
      target = path == std::string_view::npos ? "/" : target.substr(path);
    }
    const size_t mark = std::min(target.find('?'), target.size());
    const auto header = [&](wire::field name) { return std::string(message[name]); };
    return {.method = head_ ? "GET" : std::string(message.method_string()),
            .path = std::string(target.substr(0, mark)),
            .query = std::string(target.substr(std::min(mark + 1, target.size()))),
            .body = std::move(message.body()),
            .host = header(wire::field::host),
            .origin = header(wire::field::origin),
            .authorization = header(wire::field::authorization),
            .if_none_match = header(wire::field::if_none_match)};
  }

  Respond Responder() {
    return [loop = loop_.shared_from_this(), weak = weak_from_this(), serial = serial_](Response response) {
      asio::dispatch(loop->io, [weak, serial, response = std::move(response)]() mutable {
        if (const auto self = weak.lock()) self->Answer(serial, std::move(response));
      });
    };
  }

  void StartAnswerTimer() {
    answer_timer_.expires_after(loop_.options.answer_timeout);
    answer_timer_.async_wait([self = shared_from_this(), serial = serial_](error_code) {
      Response late = Problem(504, "no answer in time");
      late.headers.emplace_back("Retry-After", "1");
      self->Answer(serial, std::move(late));
    });
  }

  // The first answer to request `serial` counts.
  void Answer(uint64_t serial, Response response) {
    if (!awaiting_ || serial != serial_) return;
    awaiting_ = false;
    answer_timer_.cancel();
    Send(std::move(response));
  }

  void Send(Response response) {
    if (loop_.options.on_response) loop_.options.on_response(response.status);
    response_ = {};
    response_.result(static_cast<unsigned>(response.status));
    response_.set(wire::field::date, HttpDate());
    response_.set(wire::field::content_type, response.content_type);
    response_.set(wire::field::cache_control, "no-store");
    response_.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) response_.set(name, value);
    response_.keep_alive(keep_alive_);
    if (response.status != 304) response_.content_length(response.body.size());  // it has none, and 200's may differ
    if (!head_) response_.body() = std::move(response.body);
    stream_.tcp().expires_after(loop_.options.write_timeout);
    wire::async_write(stream_, response_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return;
      if (self->keep_alive_) return self->Receive(self->loop_.options.idle_timeout);
      self->End();
    });
  }

  // TLS says that no more comes; without that, what came might have been cut off.
  void End() {
    if (!stream_.secure()) return Linger();
    stream_.tcp().expires_after(kLingerTime);
    stream_.AsyncShutdown([self = shared_from_this()](error_code) { self->Linger(); });
  }

  // Closing with unread input would reset the connection and could take the answer with it: read on for a while.
  void Linger() {
    error_code ignored;
    stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
    BeginReceiving();
    stream_.tcp().expires_after(kLingerTime);
    Drain();
  }
  void Drain() {
    buffer_.clear();
    stream_.tcp().async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code error, size_t) {
      if (!error) self->Drain();
    });
  }

  Loop& loop_;
  Transport stream_;
  beast::flat_buffer buffer_;  // a header, and what was read beyond it
  std::optional<wire::request_parser<wire::string_body>> parser_;
  wire::response<wire::string_body> response_;
  asio::steady_timer answer_timer_;
  size_t header_bytes_ = 0;  // parsed so far
  uint64_t serial_ = 0;      // of the request that is being answered
  bool awaiting_ = false;
  bool head_ = false;
  bool keep_alive_ = true;
  std::optional<std::list<Connection*>::iterator> place_;  // in Loop::receiving
};

void Accept(Loop& loop) {
  loop.acceptor.async_accept([&loop](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // out of file descriptors, for instance: some may come back
      loop.accept_retry.expires_after(kAcceptRetry);
      return loop.accept_retry.async_wait([&loop](error_code) { Accept(loop); });
    }
    if (loop.connections.size() >= loop.options.max_connections && !loop.receiving.empty()) {
      loop.receiving.front()->Close();
    }
    if (loop.connections.size() < loop.options.max_connections) {
      socket.set_option(tcp::no_delay(true), error);
      std::make_shared<Connection>(loop, std::move(socket))->Begin();
    }
    Accept(loop);
  });
}

void Refresh(Loop& loop) {
  loop.refresh.expires_after(loop.options.refresh_interval);
  loop.refresh.async_wait([&loop](error_code error) {
    if (error) return;
    loop.credentials.Refresh();
    Refresh(loop);
  });
}

class ServerImpl : public Server {
 public:
  explicit ServerImpl(std::shared_ptr<Loop> loop)
      : loop_(std::move(loop)), port_(loop_->acceptor.local_endpoint().port()) {
    Accept(*loop_);
    Refresh(*loop_);
    thread_ = std::thread([this] { Run(); });
  }
  ~ServerImpl() override {
    loop_->io.stop();
    thread_.join();
    error_code ignored;
    loop_->acceptor.close(ignored);
    while (!loop_->connections.empty()) (*loop_->connections.begin())->Close();
  }

  uint16_t port() const override { return port_; }

 private:
  void Run() {
    while (!loop_->io.stopped()) {
      try {
        loop_->io.run();
      } catch (const std::exception& failure) {  // out of memory, for instance; it costs the connection at hand
        spdlog::error("http: {}", failure.what());
      }
    }
  }

  const std::shared_ptr<Loop> loop_;
  const uint16_t port_;
  std::thread thread_;
};

Status Listen(Loop& loop) {
  const std::string& listen = loop.options.listen;
  const auto address = ParseAddress(listen);
  if (!address) {
    return Error(ErrorCode::kInvalidArgument,
                 "\"" + listen + "\": expected host:port such as 127.0.0.1:8080 or [::1]:8080");
  }
  error_code error;
  tcp::resolver resolver(loop.io);
  const auto endpoints = resolver.resolve(address->first, std::to_string(address->second), error);
  if (error) return Error(ErrorCode::kInvalidArgument, listen + ": " + error.message());
  const tcp::endpoint endpoint = endpoints.begin()->endpoint();
  if (!endpoint.address().is_loopback()) RETURN_IF_ERROR(CheckReach(loop.options));
  loop.acceptor.open(endpoint.protocol(), error);
  if (!error) loop.acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) loop.acceptor.bind(endpoint, error);
  if (!error) loop.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error == asio::error::address_in_use) return Error(ErrorCode::kIo, listen + ": address already in use");
  if (error) return Error(ErrorCode::kIo, listen + ": " + error.message());
  return {};
}

}  // namespace

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, Handler handler) {
  ASSIGN_OR_RETURN(Credentials credentials, Credentials::Load(options));
  auto loop = std::make_shared<Loop>(std::move(options), std::move(handler), std::move(credentials));
  if (const Status listening = Listen(*loop); !listening.ok()) return listening.error().At("http.listen");
  return std::unique_ptr<Server>(std::make_unique<ServerImpl>(std::move(loop)));
}

}  // namespace freshet::http
