// Named places where a test build can be made to fail, as RocksDB's and TiKV's; elsewhere they are nothing at all.
//
// $FRESHET_FAIL_POINTS holds "name=action@n", separated by commas: at the n-th time that the process comes by (0: each
// time), it does one of
//   abort      ends at once, as by kill -9
//   stop       SIGSTOP to itself, as a machine that hangs: somebody else continues it
//   delay:MS   waits
//   error      an error kAborted, as of a transaction that came to nothing
// A name or an action that does not exist ends the process: a test that injects nothing proves nothing. Thread-safe.
#pragma once

#include "core/result.h"

namespace freshet {

#ifdef FRESHET_FAIL_POINTS
Status FailPoint(const char* name);
// Whether $FRESHET_MUTATION is `name`: a defect that tests/chaos must find.
bool Mutated(const char* name);
#else
inline Status FailPoint(const char*) { return {}; }
inline bool Mutated(const char*) { return false; }
#endif

}  // namespace freshet
