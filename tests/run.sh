#!/usr/bin/env bash
# Everything that is tested: tests/run.sh
#
# Installs what the tests need (root or sudo; Debian 12 and 13), builds the release preset and runs all of its tests, then the unit
# tests once more under AddressSanitizer and UndefinedBehaviorSanitizer. The short form of the proof under faults is among
# them (tests/chaos/run.sh is the long one; ctest --preset release --label-exclude chaos spares its minutes). Tests on real
# data read $FRESHET_TEST_DATA, or ../shared/data where that exists, and else say that they skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -z ${FRESHET_TEST_DATA:-} && -d ../shared/data ]]; then
  FRESHET_TEST_DATA=$(cd ../shared/data && pwd)
  export FRESHET_TEST_DATA
fi
export FRESHET_TEST_NO_SKIP=1  # what is installed here must be found
jobs=$(nproc)
times=()

step() {  # title, command...
  local title=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  "$@"
  times+=("$title: $((SECONDS - start)) s")
}

step "Debian packages" deploy/install-dependencies.sh build test
step "Configure" cmake --preset release -DFRESHET_TESTS=ON -DFRESHET_BENCHMARKS=ON -DFRESHET_FAIL_POINTS=ON
step "Build" cmake --build --preset release
step "Kafka clients of Go and Node.js" tests/integration/fetch_clients.sh || echo "tests/run.sh: those examples are skipped" >&2
step "Tests" ctest --preset release --parallel "$jobs" --label-exclude mutations
step "Configure with sanitizers" cmake --preset asan
step "Build the unit tests with sanitizers" cmake --build --preset asan --target unit_tests
printf '\n'
printf '%s\n' "${times[@]}"
printf '\n== Unit tests with sanitizers\n'
ctest --preset asan --parallel "$jobs"
