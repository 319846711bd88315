#include "pipeline/playground.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace freshet {

Result<std::unique_ptr<Playground>> Playground::Start(Config& config) {
  constexpr int kPartitions = 4;
  std::string state = (std::filesystem::temp_directory_path() / "freshet-playground-XXXXXX").string();
  if (mkdtemp(state.data()) == nullptr) {
    return Error(ErrorCode::kIo, "--embedded-broker: " + state + ": " + std::strerror(errno));
  }
  auto broker = EmbeddedBroker::Start(
      {{config.source.topic, kPartitions}, {config.sink.topic, kPartitions}, {config.dead_letters.topic, 1}});
  if (!broker.ok()) {
    std::filesystem::remove(state);
    return broker.error();
  }
  config.kafka.bootstrap_servers = (*broker)->address();
  // Encryption and the like are of another broker. This one answers a fetch after that long, whatever comes meanwhile,
  // and looks for it among all that the partition holds: more often costs more CPU than there are events to gain.
  config.kafka.properties = {{"fetch.wait.max.ms", "20"}};
  config.processing.guarantee = Guarantee::kAtLeastOnce;  // its readers would see open transactions
  config.snapshots.topic = "none";                        // which are made by an admin request
  config.state.directory = state;
  spdlog::warn(
      "--embedded-broker: a broker within this process, at {}, for trying out: not durable, not exactly once; state "
      "in {} goes with it. To read along: kcat -C -t {} -b {}",
      config.kafka.bootstrap_servers, state, config.sink.topic, config.kafka.bootstrap_servers);
  return std::unique_ptr<Playground>(new Playground(std::move(broker).value(), std::move(state)));
}

Playground::Playground(std::unique_ptr<EmbeddedBroker> broker, std::filesystem::path state)
    : broker_(std::move(broker)), state_(std::move(state)) {}

Playground::~Playground() {
  std::error_code ignored;
  std::filesystem::remove_all(state_, ignored);
}

}  // namespace freshet
