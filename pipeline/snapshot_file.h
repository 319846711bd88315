// State as files: for each partition what its snapshot topic would hold once compacted (state/snapshot.h).
//
//   directory := partition-<id, 5 digits>.snapshot.zst of each partition that has a position, and commits.json where
//                the input's positions are a commit log's (ingest/log_files.h), and CONTENTS, written last
//   CONTENTS  := the name of each other file, a line each, and "whole\n"
//   file      := header record* watermark        // one zstd stream
//   header    := "freshet-snapshot 1: partition <id> of <partitions>, <whose>\n"
//   record    := key_bytes:u32 value_bytes:u32 key value   // little endian; key and value as in the topic, with its
//   CRC
//
// Guarantees: a directory is a whole snapshot or is refused. A file gives every record as it was written, or an
//   error that names file, record and byte; its end is known by the watermark, so that nothing can be missing.
// Threads: one owner. Memory: a record, and the batch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/ids.h"
#include "core/result.h"
#include "ingest/event_source.h"
#include "state/store.h"

namespace freshet {

// What a snapshot belongs to; a restore has to name the same.
struct SnapshotOwner {
  std::string whose;   // as in the watermark
  int partitions = 0;  // of the input
};

// A snapshot on its way, in `<directory>.incomplete`, which goes with this object unless Finish() renamed it.
class NewSnapshot {
 public:
  // kInvalidArgument where `directory` is there and not an empty directory, or `<directory>.incomplete` is there.
  static Result<std::unique_ptr<NewSnapshot>> Begin(const std::filesystem::path& directory, SnapshotOwner owner);
  ~NewSnapshot();

  // Writes `store`, whose position is the watermark. `progress` is called with the users so far; its error ends the
  // writing. The users. REQUIRES: the store has a position.
  Result<int64_t> Add(PartitionId partition, UserStateStore& store, const std::function<Status(int64_t)>& progress);
  // Copies a file that belongs to the snapshot, if it is there.
  Status AddFile(const std::filesystem::path& file);
  // Makes everything durable, and the directory what Begin() said.
  Status Finish();

 private:
  NewSnapshot(std::filesystem::path directory, SnapshotOwner owner);
  Result<int64_t> Write(const std::filesystem::path& path, PartitionId partition, UserStateStore& store,
                        const std::function<Status(int64_t)>& progress) const;

  const std::filesystem::path directory_;
  const std::filesystem::path incomplete_;
  const SnapshotOwner owner_;
  std::string contents_;  // of CONTENTS
  bool created_ = false;  // incomplete_ is ours
};

// The snapshot that an operator names. Copyable.
class SnapshotFiles {
 public:
  // Reads every file of `directory` once, so that of a damaged snapshot nothing is restored. The error says which file
  // is damaged, or not of `owner`, or missing, or that there is none. Files that CONTENTS does not name count: they are
  // other instances'.
  static Result<SnapshotFiles> Find(const std::filesystem::path& directory, SnapshotOwner owner);

  // The records of a partition, from the first to the watermark; null where it has no file. It announces no partition.
  Result<std::unique_ptr<EventSource>> Read(PartitionId partition) const;

 private:
  SnapshotFiles(std::filesystem::path directory, SnapshotOwner owner);

  std::filesystem::path directory_;
  SnapshotOwner owner_;
};

}  // namespace freshet
