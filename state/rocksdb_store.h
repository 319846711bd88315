// A store in a RocksDB folder, for StateDirectory alone.
#pragma once

#include <filesystem>
#include <memory>

#include "core/ids.h"
#include "core/result.h"
#include "state/store.h"

namespace freshet {

// What the stores of a directory share: block cache, write-buffer manager, RocksDB's options. Immutable.
class RocksDbResources;

// Error where state.rocksdb_options is not what RocksDB understands.
Result<std::shared_ptr<const RocksDbResources>> MakeRocksDbResources(const StateOptions& options);

// `hold` lives as long as the store.
Result<std::unique_ptr<UserStateStore>> OpenRocksDbStore(const std::filesystem::path& path, PartitionId partition,
                                                         std::shared_ptr<const RocksDbResources> resources,
                                                         std::shared_ptr<void> hold);

}  // namespace freshet
