#!/bin/sh
# The most memory that a backfill of many users takes, beside what its configuration allows:
#   bench/memory.sh [BUILD_DIRECTORY]
# One million users, three million events, and a hot cache that holds a few thousand of them. Fails where the peak is not
# below hot_cache + block_cache + model + 150 MiB. Environment: USERS, EVENTS, HOT_MIB, BLOCK_MIB, and DIRECTORY for the
# files it makes (about 2 GB, removed at the end).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/release}
users=${USERS:-1000000} events=${EVENTS:-3000000} hot=${HOT_MIB:-256} block=${BLOCK_MIB:-64}
[ -f "$build/CMakeCache.txt" ] || cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
cmake --build "$build" --target freshet_end_to_end freshet >&2

work=$(mktemp -d "${DIRECTORY:-${TMPDIR:-/tmp}}/freshet-memory-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"$build/bench/freshet_end_to_end" --prepare "$work" --users "$users" --events "$events" --items 20000
"$build/bin/freshet" replay --input "$work/events.jsonl" --output "$work/recommendations.jsonl" \
  --set model.directory="$work/model" --set state.directory="$work/state" --set state.hot_cache="${hot}MiB" \
  --set state.block_cache="${block}MiB" --set recommend.top_k=10 &
replay=$!
peak=0
while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$replay/status" 2>/dev/null) && [ -n "$now" ]; do
  peak=$now
  sleep 0.2
done
wait "$replay"
model=$(du -sk "$work/model" | cut -f1)
allowed=$(((hot + block + 150) * 1024 + model))
echo "peak $((peak / 1024)) MiB; allowed $((allowed / 1024)) MiB:" \
  "hot cache $hot, block cache $block, model $((model / 1024)), and 150"
[ "$peak" -lt "$allowed" ]
