#!/usr/bin/env bash
# Fuzzes every parser: tests/fuzz/run.sh [SECONDS of each target, 60 [TARGET...]]
#
# Builds tests/fuzz with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer (Debian's clang: deploy/install-dependencies.sh
# build test fuzz), runs each target from its seeds and what earlier runs found worth keeping (build/fuzz/corpus), one after the other,
# on one core, and prints executions and crashes; at a crash the input's path. Ends with 1 if there was any.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1:-60}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "tests/fuzz/run.sh: \"$seconds\": expected the seconds of each target, a whole number" >&2
  exit 2
fi
for tool in clang++ cmake ninja; do
  if ! command -v "$tool" >/dev/null; then
    echo "tests/fuzz/run.sh: no $tool: deploy/install-dependencies.sh build test fuzz" >&2
    exit 1
  fi
done
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

fuzzer=build/fuzz/tests/fuzz/freshet_fuzzer
targets=("${@:2}")
if [[ ${#targets[@]} == 0 ]]; then
  mapfile -t targets < <(FRESHET_FUZZ_TARGET=all "$fuzzer" -runs=0 2>&1 | sed -n 's/.*expected one of //p' | tr ' ' '\n')
fi
if [[ -z ${TMPDIR:-} && -w /dev/shm ]]; then export TMPDIR=/dev/shm; fi  # for the inputs that are files
executions=0
crashes=0
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target log=build/fuzz/$target.log
  mkdir -p "$corpus" build/fuzz/crashes
  state=clean
  FRESHET_FUZZ_TARGET=$target "$fuzzer" -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crashes/$target-" "$corpus" >"$log" 2>&1 || state="CRASHED, see $log"
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-24s %12s executions  %s\n' "$target" "${runs:-?}" "$state"
  executions=$((executions + ${runs:-0}))
  if [[ $state != clean ]]; then crashes=$((crashes + 1)); fi
done
printf '%-24s %12s executions  %s crashes\n' "${#targets[@]} targets" "$executions" "$crashes"
[[ $crashes == 0 ]]
