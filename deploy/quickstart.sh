#!/usr/bin/env bash
# From a fresh checkout to recommendations: deploy/quickstart.sh
#
# Installs what freshet needs (root or sudo; Debian 12 and 13), builds it, generates a sample clickstream, replays it through the
# pipeline with the demo model, and shows a few users' last clicks beside their recommendations. No broker, nothing outside this
# folder but the Debian packages. A second run only does what is left to do, and replays the sample afresh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly sample=var/quickstart
readonly users=2000 items=2000 events=100000  # the demo model knows the catalogue of 2,000 items, not these users

step() {  # title, command...
  local title=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  "$@"
  printf -- '-- %d s\n' $((SECONDS - start))
}

build() {
  local configure=(cmake --preset release)
  # A build folder that tests/run.sh has made keeps its tests; a new one need not have any.
  [[ -f build/release/build.ninja ]] || configure+=(-DFRESHET_TESTS=OFF -DFRESHET_BENCHMARKS=OFF)
  "${configure[@]}" >build/configure.log || { cat build/configure.log && return 1; }
  cmake --build --preset release --target freshet freshet-show
}

generate() {
  rm -rf "$sample"
  mkdir -p "$sample"
  build/release/bin/freshet generate --users "$users" --items "$items" --events "$events" --seed 2 --output "$sample/events.jsonl"
}

replay() {
  build/release/bin/freshet replay --input "$sample/events.jsonl" --output "$sample/recommendations.jsonl" \
    --set model.directory=models/demo --set "items.file=$sample/items.jsonl" --set "state.directory=$sample/state" \
    --set recommend.top_k=10
}

show() {
  build/release/bin/freshet-show --items "$sample/items.jsonl" --events "$sample/events.jsonl" \
    --recommendations "$sample/recommendations.jsonl"
}

mkdir -p build
step "Debian packages" deploy/install-dependencies.sh build
step "Building" build
step "A sample clickstream: $events events of $users users over $items items, in $sample" generate
step "Each event through the model: a recommendation per event" replay
show
printf '\nAll recommendations: %s\nYour own log: build/release/bin/freshet replay --help\n' "$sample/recommendations.jsonl"
