#!/bin/sh
# Builds and runs the end-to-end benchmark: bench/run.sh [BUILD_DIRECTORY] [flags of freshet_end_to_end]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/release
case ${1:-} in '' | -*) ;; *) build=$1; shift ;; esac
[ -f "$build/CMakeCache.txt" ] || cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
cmake --build "$build" --target freshet_end_to_end >&2
exec "$build/bench/freshet_end_to_end" "$@"
