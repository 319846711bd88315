#!/usr/bin/env bash
# Exactly once under faults, on a real Apache Kafka: tests/chaos/run.sh [--faults N] [--seed S] [--minutes M] [--instances 1|2|3]
#
# Starts a broker of its own with a proxy in front, feeds a seeded clickstream, runs instances, injects N faults one after another,
# and compares what a reader saw all along, and what is on disk, with a run without faults. Ends with 0 and PASS, or with 1, the
# first differences, the seed and the directory of all logs.
#
#   tests/chaos/run.sh --mutations    whether it finds the defects of $FRESHET_MUTATION: each must make it end with 1
#
# $FRESHET names the program, one with fail points: cmake --preset release -DFRESHET_TESTS=ON -DFRESHET_FAIL_POINTS=ON, then
# cmake --build --preset release --target freshet_fail_points.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export FRESHET=${FRESHET:-$here/../../build/release/tests/chaos/freshet_fail_points}

# A fault hits only what happens to be on its way: up to three runs, each with a seed of its own.
mutation() {  # name, options...
  local code directory seed
  for seed in 1 2 3; do
    code=0
    directory=$(mktemp -d -t freshet-chaos-XXXXXX)
    python3 -B "$here/chaos.py" --directory "$directory" --seed "$seed" --mutation "$@" || code=$?
    rm -rf "$directory"
    if [[ $code == 1 ]]; then
      echo "The defect $1 was found (seed $seed)."
      return
    fi
  done
  echo "tests/chaos/run.sh: the defect $1 was not found (exit code $code)"
  exit 1
}

if [[ ${1:-} == --mutations ]]; then
  mutation state_first --instances 2 --faults 6 --events 2000 --only "fail_point before_commit abort" --only broker_hangs_and_kill
  mutation ignore_applied_offset --instances 2 --faults 12 --events 4000 --only disk_wiped --only disk_rolled_back
else
  exec python3 -B "$here/chaos.py" "$@"
fi
