#!/usr/bin/env bash
# A model that is fine-tuned while the log goes on, evaluated:
#
#   inference/training/prequential.sh [OPTIONS] MODEL LOG OUTPUT [-- OPTIONS OF finetune]
#
# From --from to --to, every --step hours, the newest model is trained on the --window hours before, and takes over. Then
# `freshet evaluate` predicts every event from --from on by the model that was there at the time (--model-from). Nothing
# that comes later is seen: an export is cut by time, and items get a row when they first occur. Models and exports go
# to OUTPUT/TIME; a model that is there is not trained again. Where there are no events to train on, the newest stays.
#
#   --config FILE   of freshet export and evaluate
#   --from TIME     2017-10-10T00:00:00Z, a full second
#   --to TIME       of the last model
#   --step HOURS    1
#   --window HOURS  3
#   --json FILE     the figures
#
# PYTHON: an interpreter with PyTorch (python3); FRESHET: the program (freshet).
set -euo pipefail

from='' to='' step=1 window=3
config=() report=()

fail() {
  printf 'prequential.sh: %s\n' "$1" >&2
  exit 2
}

while [[ ${1:-} == --* ]]; do
  (($# >= 2)) || fail "$1: a value is missing"
  case $1 in
    --config) config=(-c "$2") ;;
    --from) from=$(date -ud "$2" +%s) ;;
    --to) to=$(date -ud "$2" +%s) ;;
    --step) step=$2 ;;
    --window) window=$2 ;;
    --json) report=(--json "$2") ;;
    *) fail "$1: expected --config, --from, --to, --step, --window or --json" ;;
  esac
  shift 2
done
(($# >= 3)) || fail "expected MODEL, LOG and OUTPUT; the head of this file says how it is used"
[[ -n $from && -n $to ]] || fail "--from and --to: expected"
[[ $step =~ ^[1-9][0-9]*$ && $window =~ ^[1-9][0-9]*$ ]] || fail "--step and --window: expected whole hours, 1 or more"
readonly first=$1 log=$2 output=$3
shift 3
[[ ${1:-} != -- ]] || shift
mkdir -p "$output"
PYTHONPATH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
readonly freshet=${FRESHET:-freshet} python=${PYTHON:-python3}

newest=$first
later=()
for ((now = from; now <= to; now += step * 3600)); do
  model=$output/$(date -ud "@$now" +%Y%m%dT%H%M%S)
  if [[ ! -f $model/config.json ]]; then
    code=0
    "$freshet" export "${config[@]}" --input "$log" --output "$model-export" --from "$((now - window * 3600))000" --to "${now}000" || code=$?
    if ((code == 3)); then # what it says where there are none
      printf 'prequential.sh: no events in the %s hours before %s\n' "$window" "$(date -ud "@$now" +%FT%TZ)" >&2
      continue
    fi
    ((code == 0)) || exit "$code"
    "$python" -m freshet_training finetune --from "$newest" --data "$model-export" --output "$model" --hold-out 0 --epochs 1 "$@"
  fi
  later+=(--model-from "${now}000=$model")
  newest=$model
done
"$freshet" evaluate "${config[@]}" --input "$log" --set "model.directory=$first" --protocol prequential --from "${from}000" \
  "${later[@]}" "${report[@]}"
