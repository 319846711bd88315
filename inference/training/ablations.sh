#!/usr/bin/env bash
# What each augmentation is worth: inference/training/ablations.sh [OPTIONS] EXPORT OUTPUT [-- OPTIONS OF train]
#
# Trains a baseline and one model per augmentation and seed on an export, and prints a table of their test accuracy against the
# baseline's. Writes OUTPUT/RECIPE-SEED (a model directory), .jsonl (metrics) and .log. A run that is done is not done again, and
# one that was interrupted goes on, so that the same command completes what a kill left.
#
#   --device D      cpu (default) or cuda
#   --jobs N        runs at a time (1)
#   --seeds LIST    "1 2 3"
#   --only LIST     of the recipes below, such as "baseline crop"; "none" prints the table of what is there
#
# PYTHON: an interpreter with PyTorch (python3). Example, 24 runs:
#   inference/training/ablations.sh --device cuda --jobs 4 var/ml-1m var/ablations -- --epochs 16
set -euo pipefail

readonly recipes=(
  "baseline"
  "crop --augment crop=0.5:0.7"
  "mask --augment mask=0.5:0.2"
  "reorder --augment reorder=0.5:0.2"
  "substitute --augment substitute=0.5:0.1"
  "insert --augment insert=0.5:0.2"
  "noise --augment noise=0.5:0.05:0.1"
  "windows --augment windows=0.5:50:25"
)
device=cpu jobs=1 seeds="1 2 3" only=""

fail() {
  printf 'ablations.sh: %s\n' "$1" >&2
  exit 2
}

while [[ ${1:-} == --* ]]; do
  (($# >= 2)) || fail "$1: a value is missing"
  case $1 in
    --device) device=$2 ;;
    --jobs) jobs=$2 ;;
    --seeds) seeds=$2 ;;
    --only) only=$2 ;;
    *) fail "$1: expected --device, --jobs, --seeds or --only" ;;
  esac
  shift 2
done
[[ $jobs =~ ^[1-9][0-9]{0,3}$ ]] || fail "--jobs $jobs: expected a whole number from 1 to 9999"
for seed in $seeds; do
  [[ $seed =~ ^[0-9]{1,18}$ ]] || fail "--seeds $seed: expected whole numbers from 0 on"
done
(($# >= 2)) || fail "expected EXPORT and OUTPUT; the head of this file says how it is used"
export ABLATIONS_DATA=$1 ABLATIONS_DEVICE=$device
readonly output=$2
shift 2
[[ ${1:-} != -- ]] || shift
[[ -f $ABLATIONS_DATA/sequences.safetensors ]] || fail "$ABLATIONS_DATA: not what freshet export wrote"
mkdir -p "$output"
PYTHONPATH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH PYTHON=${PYTHON:-python3}

# shellcheck disable=SC2317  # xargs calls it
train() {  # path of the run, seed, options
  local run=$1 seed=$2
  shift 2
  if [[ -f $run.jsonl ]] && grep -q '"chosen_epoch"' "$run.jsonl"; then return; fi
  printf 'begin %s\n' "${run##*/}" >&2
  if ! "$PYTHON" -m freshet_training train --data "$ABLATIONS_DATA" --device "$ABLATIONS_DEVICE" --output "$run" \
      --metrics "$run.jsonl" --seed "$seed" --resume "$@" >> "$run.log" 2>&1; then
    printf '%s failed: %s\n' "${run##*/}" "$(tail -n 1 "$run.log")" >&2
    return 1
  fi
}
export -f train

runs() {  # a line each: the arguments of train, quoted
  local seed recipe words
  for seed in $seeds; do
    for recipe in "${recipes[@]}"; do
      read -ra words <<< "$recipe"
      [[ -z $only || " $only " == *" ${words[0]} "* ]] || continue
      printf '%q ' "$output/${words[0]}-$seed" "$seed" "${words[@]:1}" "$@"
      printf '\0'
    done
  done
}

failed=0
runs "$@" | xargs -0 -P "$jobs" -I{} bash -c 'train {}' || failed=1

metrics=()
for recipe in "${recipes[@]}"; do
  for file in "$output/${recipe%% *}"-*.jsonl; do
    [[ ! -f $file ]] || metrics+=("$file")
  done
done
((${#metrics[@]})) || fail "$output: no run has ended an epoch"
"$PYTHON" -m freshet_training report --recipes "${metrics[@]}" | tee "$output/table.txt"
exit "$failed"
