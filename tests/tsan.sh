#!/usr/bin/env bash
# ThreadSanitizer under load, on a real Apache Kafka: tests/tsan.sh [SECONDS of load, 30]
#
# Builds the tsan preset's program, starts a broker of its own, and runs tests/integration/load_kafka_test.py, whose processes end
# with code 66 where ThreadSanitizer has seen anything; its reports are then in build/tsan/reports. Needs
# deploy/install-dependencies.sh build test. Of the distribution's libraries, which are built without it, it sees the locks
# (tests/support/c11_threads.cc) but not the atomics; so what they themselves read and write is not looked at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ! ${1:-30} =~ ^[1-9][0-9]*$ ]]; then
  echo "tests/tsan.sh: \"$1\": expected seconds, a whole number" >&2
  exit 2
fi
cmake --preset tsan >/dev/null
cmake --build --preset tsan --target freshet create_topics
build=$PWD/build/tsan kafka=$PWD/build/tsan/kafka-load
rm -rf "$build/reports"
mkdir -p "$build/reports"
trap 'deploy/local-kafka.sh stop --directory "$kafka" >/dev/null' EXIT
deploy/local-kafka.sh start --port 0 --directory "$kafka"

code=0
FRESHET=$build/bin/freshet FRESHET_TEST_KAFKA=$kafka FRESHET_CREATE_TOPICS=$build/tests/ingest/kafka/create_topics \
  FRESHET_TEST_LOAD_S=${1:-30} OMP_NUM_THREADS=1 \
  TSAN_OPTIONS="ignore_noninstrumented_modules=1 log_path=$build/reports/report history_size=4 second_deadlock_stack=1" \
  python3 -B tests/integration/load_kafka_test.py || code=1
reports=$(find "$build/reports" -type f | wc -l)
echo "ThreadSanitizer: $reports processes with reports"
[[ $code == 0 && $reports == 0 ]]
