// freshet config check | print.
#include <iostream>
#include <memory>

#include "pipeline/commands/commands.h"
#include "pipeline/http/server.h"

namespace freshet {

void AddConfig(CLI::App& app, Action& action) {
  CLI::App* const command = app.add_subcommand("config", "Check or print the effective configuration");
  command->require_subcommand(1);
  command->footer("Example:\n  freshet config check -c freshet.yaml");
  const auto add = [&](const char* name, const char* what, Status (*with)(const Config&)) {
    auto flags = std::make_shared<ConfigFlags>();
    CLI::App* const sub = command->add_subcommand(name, what);
    AddConfigFlags(*sub, *flags);
    sub->footer(std::string("Example:\n  freshet config ") + name + " -c freshet.yaml --set recommend.top_k=20");
    sub->callback([flags, with, &action] {
      action = [flags, with]() -> Status {
        ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(*flags));
        return with(config);
      };
    });
  };
  add("check", "Every problem at once, each with key, value and what was expected", [](const Config& config) -> Status {
    RETURN_IF_ERROR(http::CheckAddress(config.http));
    std::cout << "ok\n";
    return {};
  });
  add("print", "The effective configuration as YAML, secrets masked", [](const Config& config) -> Status {
    std::cout << PrintConfig(config);
    return {};
  });
}

}  // namespace freshet
