#include "pipeline/commands/commands.h"

namespace freshet {

void AddConfigFlags(CLI::App& command, ConfigFlags& flags) {
  command.add_option("-c,--config", flags.file,
                     "Configuration file (YAML); may be left out where defaults and --set suffice");
  command.add_option("--set", flags.sets, "key.path=value: overrides a key; the value is YAML; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

}  // namespace freshet
