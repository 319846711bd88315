// The file PARTITION in a partition's folder, beside RocksDB's: whose state it is, and how far RocksDB's list of tables
// (its MANIFEST) went at the least.
//
// RocksDB takes a list that was cut off for one that a crash interrupted, deletes the tables that it no longer names
// and goes on without them; and where CURRENT is gone, it would begin anew. Both end here instead, before RocksDB has
// changed anything.
// Format: "partition <id> of application <name>\n" "MANIFEST-<number> <bytes>\n"
// Threads: one at a time for each folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/ids.h"
#include "core/result.h"

namespace freshet {

// The owner line of a partition's mark.
std::string OwnerOf(PartitionId partition, const std::string& application);

// Whether RocksDB is to begin anew in `folder`; kCorrupt where the folder is another owner's, or damaged as above. A
// folder without a mark (a crash was faster) counts as `owner`'s.
Result<bool> CheckPartitionFolder(const std::filesystem::path& folder, const std::string& owner);

// Replaces the mark. `manifest` is the file's name, of which `bytes` are durable. After a loss of power the mark before
// may be back, which holds as well: a list only grows, or has a successor of a higher number.
Status MarkPartition(const std::filesystem::path& folder, const std::string& owner, const std::string& manifest,
                     uint64_t bytes);

}  // namespace freshet
