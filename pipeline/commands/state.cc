// freshet state get | stats | verify | snapshot, on a directory at rest; freshet state forget, by way of the input.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipeline/commands/commands.h"
#include "pipeline/commands/replay_range.h"
#include "pipeline/event_intake.h"
#include "pipeline/progress.h"
#include "pipeline/serving_model.h"
#include "pipeline/snapshot_file.h"
#include "pipeline/user_json.h"

namespace freshet {
namespace {

struct StateFlags {
  ConfigFlags config;
  std::string user;
  bool digest = false;
  std::string output;
};

// The state directory as configured, for reading only. Item ids need the model's vocabulary, which may be absent here.
struct StateAtRest {
  Config config;
  std::unique_ptr<const Model> model;  // null: not loadable
  std::unique_ptr<StateDirectory> directory;
  std::vector<PartitionId> partitions;
};

Result<StateAtRest> OpenAtRest(const StateFlags& flags) {
  StateAtRest rest;
  ASSIGN_OR_RETURN(rest.config, LoadEffectiveConfig(flags.config));
  if (auto model = LoadModel(rest.config.model.directory); model.ok()) rest.model = std::move(model).value();
  StateOptions options;
  options.directory = rest.config.state.directory;
  options.application = rest.config.application;
  options.hot_cache_bytes = 0;
  options.block_cache_bytes = rest.config.state.block_cache_bytes;
  options.snapshots = rest.config.snapshots.topic;
  options.read_only = true;
  ASSIGN_OR_RETURN(rest.directory, StateDirectory::Open(options));
  ASSIGN_OR_RETURN(rest.partitions, rest.directory->Partitions());
  return rest;
}

Status Get(const StateFlags& flags) {
  ASSIGN_OR_RETURN(const StateAtRest rest, OpenAtRest(flags));
  for (const PartitionId partition : rest.partitions) {
    ASSIGN_OR_RETURN(const auto store, rest.directory->OpenPartition(partition));
    ASSIGN_OR_RETURN(const UserState* const user, store->Find(flags.user));
    if (user == nullptr) continue;
    std::cout << DescribeUser(*user, partition, rest.model.get())
                     .dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
              << "\n";
    return {};
  }
  return Error(ErrorCode::kIo, "user \"" + flags.user + "\": not in " + rest.config.state.directory);
}

Status Stats(const StateFlags& flags) {
  ASSIGN_OR_RETURN(const StateAtRest rest, OpenAtRest(flags));
  nlohmann::ordered_json partitions = nlohmann::ordered_json::array();
  int64_t all_users = 0, all_bytes = 0;
  for (const PartitionId partition : rest.partitions) {
    ASSIGN_OR_RETURN(const auto store, rest.directory->OpenPartition(partition));
    const StoreStats stats = store->Stats();
    nlohmann::ordered_json entry = {
        {"partition", Raw(partition)}, {"estimated_users", stats.estimated_users}, {"disk_bytes", stats.disk_bytes}};
    if (const auto position = store->Position()) entry["position"] = Raw(*position);
    all_users += stats.estimated_users;
    all_bytes += stats.disk_bytes;
    partitions.push_back(std::move(entry));
  }
  std::cout << nlohmann::ordered_json{{"directory", rest.config.state.directory},
                                      {"application", rest.config.application},
                                      {"estimated_users", all_users},
                                      {"disk_bytes", all_bytes},
                                      {"partitions", std::move(partitions)}}
                   .dump(2)
            << "\n";
  return {};
}

// What must hold for a user read back; empty: it does.
std::string Violation(const UserState& user) {
  const Profile& profile = user.profile();
  if (profile.events < static_cast<int64_t>(user.tokens().size())) return "more tokens than events";
  if (user.tokens().empty()) return "no tokens";
  if (Raw(user.applied_offset()) < 0) return "no applied offset";
  if (profile.last_time_ms != user.tokens().back().time_ms) return "last_time is not the newest token's";
  if (profile.session_events > profile.events || profile.sessions > profile.events) return "more sessions than events";
  return {};
}

struct Findings {
  int64_t users = 0, events = 0, wrong = 0;
  StateDigest digest;
};

// Calls `progress` now and then with the share of the partition that is read.
Status VerifyPartition(PartitionId partition, UserStateStore& store, Findings& found,
                       const std::function<void(double)>& progress) {
  constexpr int64_t kProgressEvery = 1024;  // users
  const std::optional<Offset> position = store.Position();
  const auto expected = static_cast<double>(std::max<int64_t>(store.Stats().estimated_users, 1));
  int64_t users = 0;
  return store.ForEach([&](const UserState& user) {
    ++found.users;
    found.events += user.profile().events;
    found.digest.Add(user);
    std::string violation = Violation(user);
    // Users that came from a snapshot may be ahead until the input has caught up.
    const bool ahead = !position || user.applied_offset() >= *position;
    if (violation.empty() && ahead && !store.SnapshotPosition()) {
      violation = "applied offset is not before the position";
    }
    if (!violation.empty()) {
      ++found.wrong;
      std::cerr << "partition " << Raw(partition) << ", user \"" << user.user_id() << "\": " << violation << "\n";
    }
    if (++users % kProgressEvery == 0) progress(std::min(1.0, static_cast<double>(users) / expected));
    return true;
  });
}

Status Verify(const StateFlags& flags) {
  ASSIGN_OR_RETURN(const StateAtRest rest, OpenAtRest(flags));
  Findings found;
  Progress progress("state verify", "users");
  for (size_t i = 0; i < rest.partitions.size(); ++i) {
    ASSIGN_OR_RETURN(const auto store, rest.directory->OpenPartition(rest.partitions[i]));
    RETURN_IF_ERROR(VerifyPartition(rest.partitions[i], *store, found, [&](double share) {
      progress.Update(found.users, (static_cast<double>(i) + share) / static_cast<double>(rest.partitions.size()));
    }));
  }
  progress.Update(found.users, 1);
  progress.Finish();
  if (flags.digest) {
    std::cout << found.digest.Hex() << "\n";
  } else {
    std::cout << nlohmann::ordered_json{{"users", found.users},
                                        {"events", found.events},
                                        {"violations", found.wrong},
                                        {"digest", found.digest.Hex()}}
                     .dump()
              << "\n";
  }
  if (found.wrong > 0)
    return Error(ErrorCode::kCorrupt, "state.directory: " + rest.config.state.directory + ": " +
                                          std::to_string(found.wrong) + " users are not consistent");
  return {};
}

// Writes the snapshots of all partitions that have a position; what became of each, as JSON.
Result<nlohmann::ordered_json> WriteAll(const StateAtRest& rest, NewSnapshot& snapshot, const std::atomic<bool>& stop) {
  Progress progress("snapshot", "users");
  nlohmann::ordered_json written = nlohmann::ordered_json::array();
  int64_t before = 0;
  for (size_t p = 0; p < rest.partitions.size(); ++p) {
    ASSIGN_OR_RETURN(const auto store, rest.directory->OpenPartition(rest.partitions[p]));
    const std::optional<Offset> position = store->Position();
    if (!position) {
      spdlog::info("partition {}: nothing was committed yet; it gets no file", Raw(rest.partitions[p]));
      continue;
    }
    const auto estimated = static_cast<double>(std::max<int64_t>(store->Stats().estimated_users, 1));
    const auto tell = [&](int64_t users) {
      const double share = std::min(1.0, static_cast<double>(users) / estimated);
      progress.Update(before + users, (static_cast<double>(p) + share) / static_cast<double>(rest.partitions.size()));
      return stop ? Status(Error(ErrorCode::kCancelled, "interrupted; nothing was kept")) : Status();
    };
    ASSIGN_OR_RETURN(const int64_t users, snapshot.Add(rest.partitions[p], *store, tell));
    before += users;
    written.push_back({{"partition", Raw(rest.partitions[p])}, {"position", Raw(*position)}, {"users", users}});
  }
  progress.Finish();
  if (written.empty()) {
    return Error(ErrorCode::kInvalidArgument,
                 "state.directory: " + rest.config.state.directory + ": nothing was committed yet");
  }
  return written;
}

Status Snapshot(const StateFlags& flags) {
  const std::atomic<bool>& stop = StopOnSignals();
  ASSIGN_OR_RETURN(const StateAtRest rest, OpenAtRest(flags));
  ASSIGN_OR_RETURN(const int partitions, InputPartitionsOf(*rest.directory));
  const std::string source = rest.directory->Fact("source").value_or("");
  ASSIGN_OR_RETURN(const auto snapshot,
                   NewSnapshot::Begin(flags.output, {.whose = SnapshotsOf(rest.config.application, source),
                                                     .partitions = partitions}));
  ASSIGN_OR_RETURN(nlohmann::ordered_json written, WriteAll(rest, *snapshot, stop));
  RETURN_IF_ERROR(snapshot->AddFile(std::filesystem::path(rest.config.state.directory) / kCommitLog));
  RETURN_IF_ERROR(snapshot->Finish());
  std::cout << nlohmann::ordered_json{{"snapshot", flags.output}, {"partitions", std::move(written)}}.dump(2) << "\n";
  return {};
}

// A directory cannot be told: what it forgot, the input and the snapshots would bring back.
Status Forget(const StateFlags& flags) {
  constexpr auto kPatience = std::chrono::seconds(10);
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags.config));
  ASSIGN_OR_RETURN(const auto writer, MakeEventWriter(KafkaOptionsFor(config), kPatience));
  ASSIGN_OR_RETURN(std::unique_ptr<EventDecoder> decoder, MakeDecoder(config.source.decoder));
  EventIntake intake(std::move(decoder), *writer);
  std::promise<Result<PartitionPosition>> answer;
  intake.Forget(flags.user, {}, [&](Result<PartitionPosition> place) { answer.set_value(std::move(place)); });
  ASSIGN_OR_RETURN(const PartitionPosition place, answer.get_future().get());
  std::cout << nlohmann::ordered_json{{"topic", config.source.topic},
                                      {"partition", Raw(place.partition)},
                                      {"offset", Raw(place.next)}}
                   .dump()
            << "\n";
  return {};
}

}  // namespace

void AddState(CLI::App& app, Action& action) {
  CLI::App* const command =
      app.add_subcommand("state", "Look at and check the per-user state of a directory at rest; forget a user");
  command->require_subcommand(1);
  command->footer("Example:\n  freshet state stats --set state.directory=var/freshet");
  const auto add = [&](const char* name, const char* what, const char* example, Status (*work)(const StateFlags&)) {
    auto flags = std::make_shared<StateFlags>();
    CLI::App* const sub = command->add_subcommand(name, what);
    AddConfigFlags(*sub, flags->config);
    sub->footer(std::string("Example:\n  freshet state ") + example);
    sub->callback([flags, work, &action] { action = [flags, work] { return work(*flags); }; });
    return std::pair(sub, flags);
  };
  const auto [get, get_flags] =
      add("get", "A user's tokens and profile, as JSON", "get u1 --set state.directory=var/freshet", Get);
  get->add_option("user", get_flags->user, "User id")->required();
  const auto [forget, forget_flags] =
      add("forget", "Forgets a user, wherever the state is: a record of source.topic says so",
          "forget u1 -c freshet.yaml", Forget);
  forget->add_option("user", forget_flags->user, "User id")->required();
  add("stats", "Users, bytes and positions by partition, as JSON", "stats --set state.directory=var/freshet", Stats);
  const auto [verify, verify_flags] =
      add("verify", "Reads every user and checks what must hold", "verify --digest", Verify);
  verify->add_flag("--digest", verify_flags->digest,
                   "Print only the digest of all users, equal for equal states however they are partitioned");
  const auto [snapshot, snapshot_flags] =
      add("snapshot", "Writes the state to files, for `run --snapshot` and `replay --snapshot`",
          "snapshot --output var/backup", Snapshot);
  snapshot->add_option("--output", snapshot_flags->output, "Directory for a file per partition; a new or an empty one")
      ->required()
      ->check(NotEmpty());
}

}  // namespace freshet
