#include "pipeline/refusals.h"

#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>

namespace freshet {
namespace {

std::terminate_handler abort_handler = nullptr;

[[noreturn]] void End() {
  constexpr std::string_view kLine = "freshet: the system gives no more memory or threads\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kLine.data(), kLine.size());
  std::_Exit(1);
}

[[noreturn]] void EndOrAbort() {
  try {
    if (const std::exception_ptr uncaught = std::current_exception()) std::rethrow_exception(uncaught);
  } catch (const std::bad_alloc&) {
    End();
  } catch (const std::system_error&) {
    End();
  } catch (...) {  // aborts below, with its name
  }
  abort_handler();
  std::abort();
}

}  // namespace

void EndOnUncaughtRefusals() { abort_handler = std::set_terminate(EndOrAbort); }

Status CatchRefusals(const std::function<Status()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kIo, "the system gives no more memory");
  } catch (const std::system_error& error) {  // as that of std::thread
    return Error(ErrorCode::kIo, std::string("the system gives no more threads or memory: ") + error.what());
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, std::string("unexpected: ") + error.what());
  }
}

}  // namespace freshet
