// What the commands share: from configuration to the parts of a processor, logging, signals, exit codes.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "pipeline/config.h"
#include "pipeline/pipeline.h"
#include "pipeline/serving_model.h"
#include "state/store.h"

namespace freshet {

// Flags that every command with a configuration takes: -c FILE and --set key=value.
struct ConfigFlags {
  std::string file;
  std::vector<std::string> sets;
};

// Logs to stderr as `config` says; until then the log goes to stdout. Call once: here, or through LoadEffectiveConfig.
void SetUpLogging(const Config& config);
// For what runs on and on: within seconds the log tells how many lines were held back (pipeline/logging.h).
void FlushLogRegularly();

// The effective configuration, with logging set up as it says. The error holds every problem, a line each.
Result<Config> LoadEffectiveConfig(const ConfigFlags& flags);

// How `run`, and `replay` to Kafka, serve the model.
ServingOptions ServingOptionsFor(const Config& config);

// Tokens kept per user: state.history, or what an exact rebuild needs; refused where it is less than that.
Result<size_t> HistoryFor(const Config& config, const Model& model);

Result<std::unique_ptr<StateDirectory>> OpenStateDirectory(const Config& config, size_t history);

// The commit log in a state directory or a snapshot.
inline constexpr char kCommitLog[] = "commits.json";

// Refuses a state directory that holds the state of another source ("log files", "Kafka topic X"): its positions and
// partitions mean other things.
Status CheckStateIsOf(const StateDirectory& states, const std::string& source, const Config& config);
// The same, and takes a directory that holds nothing yet for this one.
Status BindStateTo(StateDirectory& states, const std::string& source, const Config& config);

// Whose a snapshot is: an application's state of a source, as BindStateTo() names it. Of a topic's range: the topic's.
std::string SnapshotsOf(const std::string& application, const std::string& source);

// The part of PipelineOptions that the configuration decides, for one of `workers`.
PipelineOptions PipelineOptionsFor(const Config& config, int workers);

// Waits for brokers end when a signal asked to stop (StopOnSignals).
KafkaOptions KafkaOptionsFor(const Config& config);

// Refuses settings that lead to recommendations or snapshots of `history` tokens which the producer would not take.
Status CheckRecordSizes(const Config& config, const KafkaOptions& kafka, const ServingModel& serving, size_t history);

// Who this process is in the consumer group: a random id, kept in the state directory, so that a restart is the same
// member and a new directory another.
Result<std::string> InstanceOf(StateDirectory& states);

// PipelineOptions::origin of a topic's events.
std::function<Origin(PartitionId, Offset)> OriginInTopic(const std::string& topic);

// processing.workers, or the processor's cores; at most `partitions` where that is known (> 0).
int WorkersFor(const Config& config, int partitions);

// Becomes true on SIGTERM or SIGINT; a second signal ends the process at once. Also ignores SIGPIPE. Call once, before
// threads start.
const std::atomic<bool>& StopOnSignals();

// SIGHUP ends this process no longer, nor interrupts anything: it waits for TakeHangup(). Call once, before threads
// start.
void HoldHangups();
// Whether SIGHUP has come since the last call, or HoldHangups().
bool TakeHangup();

// What a service manager sees: 0 done, 1 failed, 2 usage or configuration, 3 the data needs a decision.
int ExitCodeOf(const Error& error);

// CPU seconds of the whole process so far.
double ProcessCpuSeconds();

}  // namespace freshet
