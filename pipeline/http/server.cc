#include "pipeline/http/server.h"

#include <spdlog/spdlog.h>

#include <thread>
#include <utility>
#include <vector>

#include "pipeline/http/address.h"
#include "pipeline/http/connection-inl.h"
#include "pipeline/http/credentials.h"

namespace freshet::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr std::chrono::milliseconds kAcceptRetry{100};
constexpr std::chrono::milliseconds kEndOfStreams{200};

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

// Streams end with an end, so that a client can tell that from an answer cut off.
void Stop(Loop& loop) {
  error_code ignored;
  loop.acceptor.close(ignored);
  loop.stopping = true;
  if (loop.streams == 0) return loop.io.stop();
  loop.patience.expires_after(kEndOfStreams);
  loop.patience.async_wait([&loop](error_code) { loop.io.stop(); });
  const std::vector<Connection*> connections(loop.connections.begin(), loop.connections.end());
  for (Connection* const connection : connections) connection->EndStream();
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
    asio::post(loop_->io, [loop = loop_.get()] { Stop(*loop); });
    thread_.join();
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

Error NotAnAddress(const std::string& listen) {
  return Error(ErrorCode::kInvalidArgument,
               "\"" + listen + "\": expected host:port such as 127.0.0.1:8080 or [::1]:8080");
}

Status Listen(Loop& loop) {
  const std::string& listen = loop.options.listen;
  const auto address = ParseAddress(listen);
  if (!address) return NotAnAddress(listen);
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

Status CheckAddress(const Endpoint& endpoint) {
  const auto address = ParseAddress(endpoint.listen);
  if (!address) return NotAnAddress(endpoint.listen).At("http.listen");
  error_code is_name;
  const asio::ip::address literal = asio::ip::make_address(address->first, is_name);
  if (is_name || literal.is_loopback()) return {};
  const Status reach = CheckReach(endpoint);
  return reach.ok() ? reach : reach.error().At("http.listen");
}

Result<std::unique_ptr<Server>> Server::Start(ServerOptions options, Handler handler) {
  ASSIGN_OR_RETURN(Credentials credentials, Credentials::Load(options));
  auto loop = std::make_shared<Loop>(std::move(options), std::move(handler), std::move(credentials));
  if (const Status listening = Listen(*loop); !listening.ok()) return listening.error().At("http.listen");
  return std::unique_ptr<Server>(std::make_unique<ServerImpl>(std::move(loop)));
}

}  // namespace freshet::http
