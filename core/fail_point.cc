// Compiled into test programs only (FRESHET_FAIL_POINTS).
#include "core/fail_point.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace freshet {
namespace {

constexpr std::array<std::string_view, 19> kNames = {
    "before_begin",       "after_begin",    "before_produce", "after_produce",      "before_send_offsets",
    "after_send_offsets", "before_commit",  "after_commit",   "before_write_batch", "after_write_batch",
    "before_snapshot",    "after_snapshot", "before_restore", "during_restore",     "after_restore",
    "on_assigned",        "after_assigned", "on_revoked",     "after_revoked",
};

struct Plan {
  std::string action;
  long at = 1;
  std::atomic<long> passed{0};
};

[[noreturn]] void Refuse(std::string_view entry) {
  std::fprintf(stderr, "FRESHET_FAIL_POINTS: \"%.*s\": expected name=action@n; names:", static_cast<int>(entry.size()),
               entry.data());
  for (const std::string_view name : kNames) std::fprintf(stderr, " %s", name.data());
  std::fprintf(stderr, "; actions: abort stop delay:MS error\n");
  std::_Exit(2);
}

using Plans = std::map<std::string, std::unique_ptr<Plan>, std::less<>>;

Plans ReadPlans() {
  Plans plans;
  const char* const text = std::getenv("FRESHET_FAIL_POINTS");
  for (std::string_view rest = text == nullptr ? "" : text; !rest.empty();) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    const size_t equals = entry.find('=');
    const size_t at = entry.rfind('@');
    if (equals == entry.npos || (at != entry.npos && at < equals)) Refuse(entry);
    const std::string name(entry.substr(0, equals));
    if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) Refuse(entry);
    auto plan = std::make_unique<Plan>();
    plan->action = entry.substr(equals + 1, at == entry.npos ? at : at - equals - 1);
    if (at != entry.npos) plan->at = std::strtol(entry.data() + at + 1, nullptr, 10);
    const bool known = plan->action == "abort" || plan->action == "stop" || plan->action == "error" ||
                       plan->action.starts_with("delay:");
    if (!known) Refuse(entry);
    plans[name] = std::move(plan);
  }
  return plans;
}

}  // namespace

bool Mutated(const char* name) {
  static const char* const mutation = std::getenv("FRESHET_MUTATION");
  return mutation != nullptr && std::string_view(mutation) == name;
}

Status FailPoint(const char* name) {
  static const Plans plans = ReadPlans();
  const auto found = plans.find(std::string_view(name));
  if (found == plans.end()) return {};
  Plan& plan = *found->second;
  const long passed = ++plan.passed;
  if (plan.at != 0 && passed != plan.at) return {};
  std::fprintf(stderr, "fail point %s: %s\n", name, plan.action.c_str());
  if (plan.action == "abort") ::kill(::getpid(), SIGKILL);
  if (plan.action == "stop") ::kill(::getpid(), SIGSTOP);
  if (plan.action.starts_with("delay:")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::strtol(plan.action.c_str() + 6, nullptr, 10)));
  }
  if (plan.action == "error") return Error(ErrorCode::kAborted, std::string("fail point ") + name);
  return {};
}

}  // namespace freshet
