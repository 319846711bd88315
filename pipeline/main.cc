#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

#include "pipeline/commands/commands.h"
#include "pipeline/refusals.h"
#include "pipeline/version.h"

namespace freshet {
namespace {

// A closed standard descriptor would be that of the first file which is opened, and take what is meant for the stream.
// Its stand-in refuses what the closed one would have refused; only the log goes nowhere. False: there is none.
bool OpenStandardDescriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) >= 0) continue;
    const int access = descriptor == STDOUT_FILENO ? O_RDONLY : O_WRONLY;
    if (open("/dev/null", access) != descriptor) return false;  // the lowest that is free
  }
  return true;
}

// Results wait for FlushResults(), which then knows why they cannot be written: the system tells only once.
void HoldResults() {
  static std::array<char, 1 << 16> buffer;
  std::setvbuf(stdout, buffer.data(), _IOFBF, buffer.size());
}

// Whether all that the command printed got out.
Status FlushResults() {
  errno = 0;
  std::cout.flush();
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return {};
  return Error(ErrorCode::kIo,
               std::string("standard output: cannot write: ") + std::strerror(errno == 0 ? EIO : errno));
}

// A line for each problem, as a person at a terminal and a log collector both like it.
int Report(const Error& error) {
  std::istringstream lines(error.message());
  for (std::string line; std::getline(lines, line);) std::cerr << "freshet: " << line << "\n";
  return ExitCodeOf(error);
}

// What is wrong with the command line, and where to read on.
Error UsageError(const CLI::App& app, const CLI::ParseError& error, const std::string& word) {
  // CLI11 complains of what is missing before it names a word that it does not know.
  const auto named = [&](const CLI::App* command) { return command->get_name() == word; };
  if (word[0] != '-' && app.get_subcommands(named).empty()) {
    return Error(ErrorCode::kInvalidArgument, word + ": unknown command, expected one of those in freshet --help");
  }
  std::string command = app.get_name();
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  return Error(ErrorCode::kInvalidArgument, std::string(error.what()) + "; see " + command + " --help");
}

Status Main(int argc, char** argv) {
  CLI::App app(
      "Fresh recommendations from a clickstream: one incremental attention step per event, state in RocksDB, Kafka to "
      "Kafka.",
      "freshet");
  app.set_version_flag("--version", std::string("freshet ") + kVersion);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of every command");
  app.get_formatter()->column_width(34);
  app.footer(
      "Example:\n  freshet replay --input clicks.jsonl --output recommendations.jsonl\n\n"
      "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 the data needs a decision.\nResults go to "
      "stdout, everything else to stderr.");
  Action action;
  AddRun(app, action);
  AddReplay(app, action);
  AddServe(app, action);
  AddEvaluate(app, action);
  AddExport(app, action);
  AddGenerate(app, action);
  AddModel(app, action);
  AddState(app, action);
  AddConfig(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return UsageError(app, error, argc > 1 ? argv[1] : "-");
    std::ostringstream text;  // help, or the version; CLI11 would flush it, and the reason of a failure be lost
    app.exit(error, text, text);
    std::cout << text.str();
    return FlushResults();
  }
  RETURN_IF_ERROR(action());
  return FlushResults();
}

}  // namespace
}  // namespace freshet

int main(int argc, char** argv) {
  if (!freshet::OpenStandardDescriptors()) return 1;
  freshet::HoldResults();
  freshet::EndOnUncaughtRefusals();
  const freshet::Status status = freshet::CatchRefusals([&] { return freshet::Main(argc, argv); });
  return status.ok() ? 0 : freshet::Report(status.error());
}
