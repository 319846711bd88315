// freshet export: the training sequences, tokenised by the code that serves.
#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "inference/model.h"
#include "inference/safetensors.h"
#include "pipeline/commands/commands.h"
#include "pipeline/commands/outputs.h"
#include "pipeline/event_log.h"
#include "pipeline/text_file.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSequences = "sequences.safetensors";
constexpr std::string_view kItems = "items.tsv";
constexpr std::string_view kTypes = "event_types.tsv";
constexpr std::string_view kUsers = "users.tsv";
constexpr std::string_view kFiles[] = {kSequences, kItems, kTypes, kUsers};

struct ExportFlags {
  ConfigFlags config;
  std::vector<std::string> inputs;
  std::string output;
  std::string vocabulary;
  std::string from;
  std::string to;
};

Result<TimeRange> RangeOf(const ExportFlags& flags) {
  TimeRange range;
  if (!flags.from.empty()) {
    ASSIGN_OR_RETURN(range.from_ms, ParseTime("--from", flags.from));
  }
  if (!flags.to.empty()) {
    ASSIGN_OR_RETURN(range.to_ms, ParseTime("--to", flags.to));
  }
  if (range.from_ms < range.to_ms) return range;
  return Error(ErrorCode::kInvalidArgument,
               "--to: " + flags.to + ": not after --from, " + flags.from + ", so that no event is between them");
}

// row<TAB>name lines, as a model directory has them.
template <typename Names, typename NameOf>
Status WriteRows(const fs::path& path, const Names& names, NameOf name_of) {
  ASSIGN_OR_RETURN(const auto file, TextFile::Create(path));
  for (size_t row = 0; row < names.size(); ++row) {
    RETURN_IF_ERROR(file->Write(std::to_string(row) + '\t' + name_of(names[row]) + '\n'));
  }
  return file->Close();
}

Status WriteSequences(const fs::path& path, const EventLog& log) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> items, types;
  std::vector<int64_t> times;
  for (const UserSequence& user : log.users) {
    for (const ModelToken& token : user.tokens) {
      items.push_back(static_cast<int32_t>(Raw(token.item)));
      types.push_back(static_cast<int32_t>(Raw(token.type)));
      times.push_back(token.time_s);
    }
    offsets.push_back(static_cast<int64_t>(items.size()));
  }
  const auto tensor = [](const char* name, TensorType type, const auto& values) {
    return TensorView{name, type, {values.size()}, std::as_bytes(std::span(values))};
  };
  const std::vector<TensorView> tensors = {
      tensor("offsets", TensorType::kInt64, offsets), tensor("items", TensorType::kInt32, items),
      tensor("types", TensorType::kInt32, types), tensor("times", TensorType::kInt64, times)};
  return WriteSafetensors(path, tensors);
}

// All files are whole beside those of an earlier export before the first takes its place.
Status WriteAll(const fs::path& directory, const EventLog& log) {
  const fs::path unfinished = directory / ".unfinished";
  std::error_code error;
  fs::create_directories(unfinished, error);
  if (error) return Error(ErrorCode::kIo, "--output: " + directory.string() + ": " + error.message());
  const auto itself = [](const std::string& name) -> const std::string& { return name; };
  const auto id_of = [](const UserSequence& user) -> const std::string& { return user.user_id; };
  Status status = WriteSequences(unfinished / kSequences, log);
  if (status.ok()) status = WriteRows(unfinished / kItems, log.vocabulary.item_ids(), itself);
  if (status.ok()) status = WriteRows(unfinished / kTypes, log.vocabulary.type_names(), itself);
  if (status.ok()) status = WriteRows(unfinished / kUsers, log.users, id_of);
  for (const std::string_view name : kFiles) {
    if (!status.ok()) break;
    fs::rename(unfinished / name, directory / name, error);
    if (error) status = Error(ErrorCode::kIo, (directory / name).string() + ": cannot be replaced: " + error.message());
  }
  fs::remove_all(unfinished, error);
  return status;
}

Error NothingToExport(const ExportFlags& flags, const EventLog& log) {
  return Error(ErrorCode::kNeedsDecision, "--input: no event to export: " + std::to_string(log.out_of_range) +
                                              " events are outside --from and --to, " +
                                              std::to_string(log.bad_records + log.unlistable_ids) +
                                              " records are bad; " + flags.output + " stays as it was");
}

Status Export(const ExportFlags& flags) {
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags.config));
  RETURN_IF_ERROR(CheckOutputDirectory("--output", flags.output, kFiles,
                                       FilesRead(flags.config, flags.inputs, std::span(&flags.vocabulary, 1))));
  std::unique_ptr<const Model> model;
  if (!flags.vocabulary.empty()) {
    ASSIGN_OR_RETURN(model, LoadModel(flags.vocabulary));
  }
  ASSIGN_OR_RETURN(const TimeRange range, RangeOf(flags));
  const std::vector<fs::path> inputs(flags.inputs.begin(), flags.inputs.end());
  ASSIGN_OR_RETURN(const EventLog log, ReadEventLog(config, inputs, model ? &model->vocabulary : nullptr, range));
  if (log.events == 0) return NothingToExport(flags, log);
  RETURN_IF_ERROR(WriteAll(flags.output, log));
  spdlog::info(
      "exported {} events of {} users, {} items, {} event types to {}; {} bad records left out, {} duplicates dropped",
      log.events, log.users.size(), log.vocabulary.item_ids().size() - 1, log.vocabulary.type_names().size() - 1,
      flags.output, log.bad_records + log.unlistable_ids, log.duplicates);
  return {};
}

}  // namespace

void AddExport(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* const command = app.add_subcommand("export", "Training sequences of a log, tokenised as the pipeline does");
  AddConfigFlags(*command, flags->config);
  command->add_option("--input", flags->inputs, "Log files, in order")->required()->check(NotEmpty());
  command
      ->add_option("--output", flags->output,
                   "Directory for sequences.safetensors, items.tsv, event_types.tsv, users.tsv")
      ->required()
      ->check(NotEmpty());
  command
      ->add_option("--vocabulary", flags->vocabulary,
                   "Model directory whose rows to use; default: every item and type of the log gets a row")
      ->check(NotEmpty());
  command->add_option("--from", flags->from, "Only events from this time on (ISO 8601, or epoch milliseconds)")
      ->check(NotEmpty());
  command->add_option("--to", flags->to, "Only events before this time")->check(NotEmpty());
  command->footer("Example:\n  freshet export --input clicks.jsonl.gz --output var/training");
  command->callback([flags, &action] { action = [flags] { return Export(*flags); }; });
}

}  // namespace freshet
