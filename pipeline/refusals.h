// Where exceptions of the standard library end: what the system refused (memory, a thread) becomes an Error.
#pragma once

#include <functional>

#include "core/result.h"

namespace freshet {

// The Status of `work`, or an Error that says what it threw. At the top of main() and of each thread that can fail.
Status CatchRefusals(const std::function<Status()>& work);

// Ends the program with one line and code 1, and no core, where a library lets no one catch such an exception: RocksDB
// allocates in threads and destructors of its own. What else ends in std::terminate() aborts as ever.
void EndOnUncaughtRefusals();

}  // namespace freshet
