// Named places where a test build (FRESHET_FAIL_POINTS) can be made to fail; elsewhere they cost nothing.
//
// $FRESHET_FAIL_POINTS holds entries "name=action[:argument][@n]", separated by commas. The action happens at the n-th
// time (default 1) that the process comes by: abort (as a crash), stop (SIGSTOP to itself), delay:MS, error.
// Every delay with "@0" happens at each time. Thread-safe.
#pragma once

#include "core/result.h"

namespace freshet {

#ifdef FRESHET_FAIL_POINTS
Status FailPoint(const char* name);
#else
inline Status FailPoint(const char*) { return {}; }
#endif

}  // namespace freshet
