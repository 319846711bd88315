#!/bin/sh
# What the guarantees cost on a real broker, and how long a restart and a restore take:
#   bench/kafka.sh [BUILD_DIRECTORY] [--case NAME...] [flags; --help lists them]
# Starts an Apache Kafka of its own (deploy/local-kafka.sh), feeds it a generated clickstream, checks every answer, and
# prints a table. bench/README.md says how to read it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/release
case ${1:-} in '' | -*) ;; *) build=$1; shift ;; esac
[ -f "$build/CMakeCache.txt" ] || cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
[ -n "${FRESHET:-}" ] || cmake --build "$build" --target freshet >&2
cmake --build "$build" --target freshet_kafka_probe >&2
export FRESHET="${FRESHET:-$build/bin/freshet}" FRESHET_KAFKA_PROBE="$build/bench/freshet_kafka_probe"
exec python3 -B "$root/bench/kafka.py" "$@"
