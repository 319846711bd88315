// freshet model convert.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "inference/model_config.h"
#include "inference/sasrec_import.h"
#include "ingest/event_fields.h"
#include "pipeline/commands/commands.h"
#include "pipeline/serving_model.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

struct ConvertFlags {
  std::string checkpoint;
  std::string items;
  std::string output;
  std::string norm;
  std::string activation = "relu";
  int heads = 0;
  int window = 0;  // 0: all positions
};

// One id a line.
Result<std::vector<std::string>> ReadItems(const std::string& file) {
  std::vector<std::string> ids;
  std::ifstream stream(file, std::ios::binary);
  for (std::string line; std::getline(stream, line);) {
    ids.push_back(line);
    const char* const problem = line.empty()                              ? "empty"
                                : line.find_first_of("\t\r") != line.npos ? "has a tab or a carriage return"
                                : !IsValidUtf8(line)                      ? "is not UTF-8"
                                                                          : nullptr;
    if (problem == nullptr) continue;
    return Error(ErrorCode::kInvalidArgument,
                 "--items: " + file + ": line " + std::to_string(ids.size()) + " " + problem + ", expected an item id");
  }
  if (!stream.eof() || ids.empty()) return Error(ErrorCode::kIo, "--items: " + file + ": cannot be read, or is empty");
  return ids;
}

Result<SasrecImport> ImportBy(const ConvertFlags& flags) {
  SasrecImport import;
  import.heads = flags.heads;
  import.relu = flags.activation == "relu";
  for (const Norm norm : {Norm::kQuery, Norm::kPost, Norm::kPre}) {
    if (NormName(norm) == flags.norm) import.norm = norm;
  }
  if (flags.window != 0) import.window = flags.window;
  ASSIGN_OR_RETURN(import.items, ReadItems(flags.items));
  return import;
}

// What was written loads, or is gone again.
Status Convert(const ConvertFlags& flags) {
  SetUpLogging({});
  const fs::path output = flags.output;
  std::error_code failure;
  if (fs::exists(output, failure)) return Error(ErrorCode::kInvalidArgument, "--output: " + flags.output + ": exists");
  ASSIGN_OR_RETURN(const SasrecImport import, ImportBy(flags));
  ASSIGN_OR_RETURN(std::vector<CheckpointTensor> tensors, ReadCheckpoint(flags.checkpoint));
  const auto model = ImportSasrec(std::move(tensors), import);
  if (!model.ok()) return model.error().At(flags.checkpoint);
  Status status = WriteModelDirectory(**model, output);
  if (status.ok()) {
    const Result<ServingModel> serving = ServingModel::Load(output);
    if (!serving.ok()) status = serving.error();
  }
  if (!status.ok()) {
    fs::remove_all(output, failure);
    return status;
  }
  const ModelConfig& config = (*model)->config;
  std::printf("%s: %d items, d %d, %d layers, %d heads, window %d, norm %s, padding %s; version %s\n",
              flags.output.c_str(), config.items - 1, config.dim, config.layers, config.heads, config.window,
              std::string(NormName(config.sasrec.norm)).c_str(),
              std::string(PaddingName(config.sasrec.padding)).c_str(), (*model)->version.c_str());
  return {};
}

}  // namespace

void AddModelConvert(CLI::App& model, Action& action) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* const command =
      model.add_subcommand("convert", "A model directory from a PyTorch checkpoint of SASRec or gSASRec");
  command->add_option("checkpoint", flags->checkpoint, "What torch.save(model.state_dict(), path) wrote")
      ->required()
      ->check(NotEmpty());
  command->add_option("--output", flags->output, "Model directory to make")->required()->check(NotEmpty());
  command->add_option("--items", flags->items, "File of the item ids that the rows 1, 2, .. stand for, one a line")
      ->required()
      ->check(NotEmpty());
  command->add_option("--heads", flags->heads, "Attention heads, which a checkpoint does not say")
      ->required()
      ->transform(WholeNumber(1, 4096));
  command->add_option("--norm", flags->norm, "query, post or pre: where SASRec.pytorch normalised, by its date")
      ->check(CLI::IsMember({"query", "post", "pre"}));
  command->add_option("--activation", flags->activation, "relu, or none as in the first versions of both")
      ->check(CLI::IsMember({"relu", "none"}))
      ->capture_default_str();
  command->add_option("--window", flags->window, "maxlen, where it is below the checkpoint's count of positions")
      ->transform(WholeNumber(1, 1 << 16));
  command->footer(
      "Example:\n  freshet model convert SASRec.pth --items items.txt --heads 1 --output var/sasrec\n"
      "Such a model cannot be cached: each event computes the whole window anew. docs/models.md, Import, says more.");
  command->callback([flags, &action] { action = [flags] { return Convert(*flags); }; });
}

}  // namespace freshet
