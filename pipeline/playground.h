// What `freshet run --embedded-broker` runs on: a broker of this process's own, and state that goes with it.
#pragma once

#include <filesystem>
#include <memory>

#include "core/result.h"
#include "ingest/embedded_broker.h"
#include "pipeline/config.h"

namespace freshet {

class Playground {
 public:
  // Starts the broker, and makes `config` one of it: its address, no properties, at least once, no snapshots, and a new
  // state directory, since the broker knows nothing of what an older one had.
  static Result<std::unique_ptr<Playground>> Start(Config& config);
  ~Playground();  // the state directory goes
  Playground(const Playground&) = delete;
  Playground& operator=(const Playground&) = delete;

  std::string address() const { return broker_->address(); }

 private:
  Playground(std::unique_ptr<EmbeddedBroker> broker, std::filesystem::path state);

  const std::unique_ptr<EmbeddedBroker> broker_;
  const std::filesystem::path state_;
};

}  // namespace freshet
