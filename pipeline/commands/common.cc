#include "pipeline/commands/commands.h"

namespace freshet {

void AddConfigFlags(CLI::App& command, ConfigFlags& flags) {
  command.add_option("-c,--config", flags.file,
                     "Configuration file (YAML); may be left out where defaults and --set suffice");
  command.add_option("--set", flags.sets, "key.path=value: overrides a key; the value is YAML; may be repeated")
      ->take_all()
      ->allow_extra_args(false);
}

void AddSnapshotFlag(CLI::App& command, std::string& directory) {
  command.add_option("--snapshot", directory,
                     "Directory that `freshet state snapshot` wrote: partitions without state here are restored from "
                     "it, and go on from there");
}

}  // namespace freshet
