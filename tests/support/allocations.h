// Counts allocations: a test program with allocations.cc has an operator new that does. Not together with sanitizers,
// which bring their own.
#pragma once

#include <cstdint>

namespace freshet {

// Calls of operator new on this thread so far, whatever its form, of libraries too.
int64_t AllocationsOfThisThread();

}  // namespace freshet
