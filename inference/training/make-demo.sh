#!/usr/bin/env bash
# Makes the shipped demo model from nothing: inference/training/make-demo.sh [MODEL_DIR]
#
# Generates a clickstream, exports its sequences, trains, and prints the accuracy of the model beside that of popularity and
# co-visitation, both through `freshet evaluate`: on the training log's held-out clicks, and on a log of users that the model has
# never seen. MODEL_DIR is models/demo unless given. FRESHET: the program (build/release/bin/freshet), PYTHON: an interpreter with
# PyTorch (python3), THREADS: CPU threads for training (1; the same number gives the same bytes on the same machine).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly model=${1:-models/demo} work=var/demo
readonly freshet=${FRESHET:-build/release/bin/freshet} python=${PYTHON:-python3} threads=${THREADS:-1}
readonly items=2000

generate() {  # name, users, events, seed
  "$freshet" generate --users "$2" --items "$items" --events "$3" --seed "$4" --output "$work/$1/events.jsonl"
}

train() {
  PYTHONPATH=inference/training "$python" -m freshet_training train --data "$work/export" --output "$model" \
    --metrics "$work/metrics.jsonl" --threads "$threads" --seed 1 \
    --dim 128 --layers 2 --heads 4 --window 32 --dropout 0.05 --id-dropout 0.01 --lr 0.003 --epochs 5 --batch-users 8 \
    --valid-users 2000
}

evaluate() {  # name
  "$freshet" evaluate --input "$work/$1/events.jsonl" --set "model.directory=$model" --json "$work/$1.json"
}

rm -rf "$work"
mkdir -p "$work"
generate seen 20000 1000000 7
generate unseen 5000 200000 1
"$freshet" export --input "$work/seen/events.jsonl" --output "$work/export"
train
printf '\nThe held-out last clicks of the users trained on:\n'
evaluate seen
printf '\nThe last clicks of other users:\n'
evaluate unseen
printf '\n%s: %s\n' "$model" "$(du -sh --apparent-size "$model" | cut -f1)"
