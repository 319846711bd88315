#include <spdlog/spdlog.h>

#include <cstdio>
#include <sstream>
#include <utility>

#include "pipeline/http/connection-inl.h"
#include "pipeline/http/response.h"

namespace freshet::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kReadBytes = 4096;
constexpr std::chrono::seconds kLingerTime{2};

Response TryLater(int status, std::string_view detail) {
  Response response = Problem(status, detail);
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

}  // namespace

Connection::Connection(Loop& loop, tcp::socket socket)
    : loop_(loop),
      stream_(std::move(socket), loop.credentials.tls()),
      buffer_(loop.options.max_header_bytes + 2 * kReadBytes),
      timer_(loop.io) {
  loop_.connections.insert(this);
}

void Connection::Begin() {
  if (!stream_.secure()) return Receive(loop_.options.read_timeout);
  BeginReceiving();
  stream_.tcp().expires_after(loop_.options.read_timeout);
  stream_.AsyncHandshake([self = shared_from_this()](error_code error) {
    self->EndReceiving();
    if (!error) self->Receive(self->loop_.options.read_timeout);
  });
}

// Waits for a request's first byte, at most `patience`; what was pipelined is there already.
void Connection::Receive(std::chrono::milliseconds patience) {
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

void Connection::Close() {
  Forget();
  stream_.tcp().close();
}

void Connection::EndReceiving() {
  if (place_) loop_.receiving.erase(*place_);
  place_.reset();
}
void Connection::Forget() {
  EndReceiving();
  LeaveStream();
  loop_.connections.erase(this);
}

void Connection::ReadHeader() {
  stream_.async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code error, size_t bytes) {
    if (error) return;
    const bool first = self->header_bytes_ + self->buffer_.size() == 0;
    if (first) self->stream_.tcp().expires_after(self->loop_.options.read_timeout);
    self->buffer_.commit(bytes);
    self->ParseHeader();
  });
}

// Beast's header_limit holds for what is parsed at once; the sum over several reads is held here.
void Connection::ParseHeader() {
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

void Connection::Continue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(stream_, asio::buffer(kContinue), [self = shared_from_this()](error_code error, size_t) {
    if (!error) self->ReadBody();
  });
}

void Connection::ReadBody() {
  wire::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
    if (error) return self->Refuse(error);
    self->EndReceiving();
    self->Dispatch();
  });
}

// Answers a request that is none, and closes; a client that went away or stays silent is just left.
void Connection::Refuse(error_code error) {
  EndReceiving();
  if (error == wire::error::partial_message) return;
  if (error.category() != make_error_code(wire::error::bad_method).category()) return;
  keep_alive_ = false;
  if (error == wire::error::body_limit) {
    Send(Problem(413, "the body is over " + std::to_string(loop_.options.max_body_bytes) + " bytes"));
  } else if (error == wire::error::header_limit) {
    const bool in_target = parser_->get().target().empty();
    Send(Problem(in_target ? 414 : 431, "the request's " + std::string(in_target ? "target" : "header") + " is over " +
                                            std::to_string(loop_.options.max_header_bytes) + " bytes"));
  } else {
    Send(Problem(400, error.message()));
  }
}

void Connection::Dispatch() {
  const auto& message = parser_->get();
  keep_alive_ = message.keep_alive();
  if (message.version() >= 11 && message.count(wire::field::host) != 1) return Misread("expected one Host header");
  const auto codings = message.count(wire::field::transfer_encoding);
  if (codings > 0 &&
      (codings > 1 || message.version() < 11 || !beast::iequals(message[wire::field::transfer_encoding], "chunked"))) {
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

void Connection::Misread(std::string_view detail) {
  keep_alive_ = false;
  Send(Problem(400, detail));
}

// The target in origin form, or (as to a proxy) in absolute form: http://host/path?query.
Request Connection::ToRequest() {
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
          .if_none_match = header(wire::field::if_none_match),
          .last_event_id = std::string(message["Last-Event-ID"]),
          .traceparent = message.count("traceparent") == 1 ? std::string(message["traceparent"]) : "",
          .tracestate = Joined("tracestate")};
}

// The values of all headers of a name, as RFC 9110, 5.3 has it.
std::string Connection::Joined(const char* name) {
  std::string all;
  const auto [begin, end] = parser_->get().equal_range(name);
  for (auto header = begin; header != end; ++header) {
    all += (all.empty() ? "" : ",") + std::string(header->value());
  }
  return all;
}

Respond Connection::Responder() {
  return [loop = loop_.shared_from_this(), weak = weak_from_this(), serial = serial_](Response response) {
    asio::dispatch(loop->io, [weak, serial, response = std::move(response)]() mutable {
      if (const auto self = weak.lock()) self->Answer(serial, std::move(response));
    });
  };
}

void Connection::StartAnswerTimer() {
  timer_.expires_after(loop_.options.answer_timeout);
  timer_.async_wait([self = shared_from_this(), serial = serial_](error_code) {
    self->Answer(serial, TryLater(504, "no answer in time"));
  });
}

// The first answer to request `serial` counts.
void Connection::Answer(uint64_t serial, Response response) {
  if (!awaiting_ || serial != serial_) return;
  awaiting_ = false;
  timer_.cancel();
  Send(std::move(response));
}

void Connection::Send(Response response) {
  if (response.stream && loop_.streams >= loop_.options.max_streams) {
    response = TryLater(503, "no more than " + std::to_string(loop_.options.max_streams) + " streams at a time");
  }
  if (loop_.options.on_response) loop_.options.on_response(response.status);
  response_ = {};
  response_.result(static_cast<unsigned>(response.status));
  response_.set(wire::field::date, HttpDate());
  response_.set(wire::field::content_type, response.content_type);
  response_.set(wire::field::cache_control, "no-store");
  response_.set("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers) response_.set(name, value);
  if (response.stream && !head_) return BeginStream(std::move(response.stream));
  response_.keep_alive(keep_alive_);
  if (response.status != 304 && !response.stream)
    response_.content_length(response.body.size());  // it has none, and 200's may differ
  if (!head_) response_.body() = std::move(response.body);
  stream_.tcp().expires_after(loop_.options.write_timeout);
  wire::async_write(stream_, response_, [self = shared_from_this()](error_code error, size_t) {
    if (error) return;
    if (self->keep_alive_) return self->Receive(self->loop_.options.idle_timeout);
    self->End();
  });
}

// TLS says that no more comes; without that, what came might have been cut off.
void Connection::End() {
  if (!stream_.secure()) return Linger();
  stream_.tcp().expires_after(kLingerTime);
  stream_.AsyncShutdown([self = shared_from_this()](error_code) { self->Linger(); });
}

// Closing with unread input would reset the connection and could take the answer with it: read on for a while.
void Connection::Linger() {
  error_code ignored;
  stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
  BeginReceiving();
  stream_.tcp().expires_after(kLingerTime);
  Drain();
}
void Connection::Drain() {
  buffer_.clear();
  stream_.tcp().async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](error_code error, size_t) {
    if (!error) self->Drain();
  });
}

// Header and parts go out one after the other; beside them one read waits for the client's end.
void Connection::BeginStream(std::shared_ptr<EventStream> events) {
  events_ = std::move(events);
  streaming_ = true;
  ++loop_.streams;
  events_->Attach([loop = loop_.shared_from_this(), weak = weak_from_this()] {
    asio::post(loop->io, [weak] {
      if (const auto self = weak.lock()) self->Pull();
    });
  });
  chunked_ = parser_->get().version() >= 11;
  response_.keep_alive(false);
  if (chunked_) response_.chunked(true);
  std::ostringstream header;
  header << response_.base();
  Watch();
  Write(header.str());
}

void Connection::Watch() {
  stream_.tcp().expires_never();
  stream_.async_read_some(buffer_.prepare(1), [self = shared_from_this()](error_code, size_t) {
    if (self->events_) self->Close();
    if (!self->stream_.tcp().socket().is_open()) return;
    self->End();
    self->LeaveStream();
  });
}

// Sends what there is to send, unless something is on its way.
void Connection::Pull() {
  if (writing_ || !events_) return;
  try {
    const auto next = ending_ ? std::nullopt : events_->Take();
    if (next && next->empty()) return;
    if (next) return Write(Framed(*next));
  } catch (const std::exception& failure) {
    spdlog::error("http: {}", failure.what());
    return Close();
  }
  events_->Attach({});
  events_.reset();
  timer_.cancel();
  if (chunked_) return Write(Framed(""));
  stream_.tcp().cancel();  // Watch() goes on
}

void Connection::Write(std::string bytes) {
  writing_ = true;
  part_ = std::move(bytes);
  stream_.tcp().expires_after(loop_.options.write_timeout);
  asio::async_write(stream_, asio::buffer(part_), [self = shared_from_this()](error_code error, size_t) {
    self->writing_ = false;
    if (error) return self->Close();
    if (!self->events_) return self->stream_.tcp().cancel();  // that was the end: Watch() goes on
    self->StayAlive();
    self->Pull();
  });
}

// RFC 9112, 7.1; the empty part is the last.
std::string Connection::Framed(const std::string& part) const {
  if (!chunked_) return part;
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", part.size());
  return size + part + "\r\n";
}

// Proxies end what is silent for long, and a client that is gone without a word is found by writing to it.
void Connection::StayAlive() {
  timer_.expires_after(loop_.options.keep_alive_interval);
  timer_.async_wait([weak = weak_from_this()](error_code error) {
    const auto self = weak.lock();
    if (!error && self && self->events_ && !self->writing_) self->Write(self->Framed(":\n\n"));
  });
}

void Connection::EndStream() {
  if (!events_) return;
  ending_ = true;
  Pull();
}

void Connection::LeaveStream() {
  if (events_) events_->Attach({});
  events_.reset();
  if (!std::exchange(streaming_, false)) return;
  --loop_.streams;
  if (loop_.stopping && loop_.streams == 0) loop_.io.stop();
}

}  // namespace freshet::http
