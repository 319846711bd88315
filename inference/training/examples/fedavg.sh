#!/usr/bin/env bash
# One model of three logs that stay apart, against models of each alone and of all together: inference/training/examples/fedavg.sh
#
# Generates a clickstream and deals its users to three logs: a sixth, a third, a half. Every model sees the events as often as the
# others. Prints HR@10 and NDCG@10 of each on the last clicks of all users. Takes a few minutes. FRESHET: the program
# (build/release/bin/freshet), PYTHON: an interpreter with PyTorch (python3), THREADS: CPU threads for training (1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

readonly work=var/fedavg epochs=10
readonly freshet=${FRESHET:-build/release/bin/freshet} python=${PYTHON:-python3} threads=${THREADS:-1}
export PYTHONPATH=inference/training

learn() {  # command, output, the rest
  "$python" -m freshet_training "$1" --output "$work/$2" --threads "$threads" --seed 1 \
    --dim 32 --layers 2 --window 20 --batch-users 16 --dropout 0.1 --lr 0.003 "${@:3}" > "$work/$2.log"
  printf '%-20s ' "$2"
  "$python" -m freshet_training evaluate --model "$work/$2" --data "$work/all" --threads "$threads"
}

rm -rf "$work"
mkdir -p "$work"
"$freshet" generate --users 3000 --items 500 --events 120000 --seed 1 --output "$work/all.jsonl"
awk -F '"user_id":"u' -v work="$work" '
  { user = $2 + 0; log_ = user % 6 == 0 ? "small" : user % 6 <= 2 ? "middle" : "large"
    print > (work "/" log_ ".jsonl") }' "$work/all.jsonl"
for log in small middle large all; do
  "$freshet" export --input "$work/$log.jsonl" --output "$work/$log"
done

for log in small middle large; do
  learn train "$log-alone" --data "$work/$log" --epochs "$epochs"
done
learn fedavg federated --data "$work/small" --data "$work/middle" --data "$work/large" --rounds "$epochs"
learn train together --data "$work/all" --epochs "$epochs"
