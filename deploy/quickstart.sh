#!/usr/bin/env bash
# From a fresh checkout to recommendations: deploy/quickstart.sh [--once]
#
# Installs what freshet needs (root or sudo; Debian 12 and 13), builds it, generates a sample clickstream, replays it through the
# pipeline with the demo model, and shows a few users' last clicks beside their recommendations. Then the same lives: a broker
# within the program, shoppers who click, until Ctrl-C. --once (or CI set): one click, its recommendation, and the end.
# Nothing outside this folder but the Debian packages. A second run only does what is left to do, and replays the sample afresh.
set -euo pipefail

case ${1:-} in
  "") once=${CI:-} ;;
  --once) once=1 ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
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

live() {  # more options of freshet run
  exec build/release/bin/freshet run --embedded-broker --set model.directory=models/demo --set "items.file=$sample/items.jsonl" \
    --set recommend.top_k=10 "$@"
}

recommended() {  # the user's newest list, once there is one of so many events
  local answer i
  for ((i = 0; i < 300; ++i)); do
    answer=$(curl -s "http://127.0.0.1:$port/v1/recommendations/you") && [[ $answer == *"\"sequence_number\":$1,"* ]] && break
    sleep 0.1
  done
  [[ $answer == *"\"sequence_number\":$1,"* ]] || { echo "no recommendation came: $answer" >&2 && return 1; }
  sed 's/.*"items":\[{"item_id":"\([^"]*\)".*/\1/' <<<"$answer"
}

click() {  # item
  curl -sf "http://127.0.0.1:$port/v1/events" \
    -d "{\"user_id\":\"you\",\"item_id\":\"$1\",\"timestamp\":$(date +%s%3N)}" >/dev/null
  echo "you click on $1"
}

once() {
  local log=$sample/run.log port i next
  (live --shoppers 50 --set http.listen=127.0.0.1:0) 2>"$log" &
  local process=$!
  # shellcheck disable=SC2064  # the number as it is now: on the way out the function's variables are gone
  trap "kill $process 2>/dev/null" EXIT
  for ((i = 0; i < 300; ++i)); do
    port=$(sed -n 's/.* on port \([0-9]*\).*/\1/p' "$log")
    [[ -n $port ]] && curl -sf "http://127.0.0.1:$port/readyz" >/dev/null && break
    kill -0 $process || { cat "$log" >&2 && return 1; }
    sleep 0.1
  done
  click i1
  next=$(recommended 1)
  echo "first of what is recommended: $next"
  click "$next"
  echo "then: $(recommended 2)"
  kill $process
  wait $process
  trap - EXIT
}

mkdir -p build
step "Debian packages" deploy/install-dependencies.sh build
step "Building" build
step "A sample clickstream: $events events of $users users over $items items, in $sample" generate
step "Each event through the model: a recommendation per event" replay
show
if [[ -n $once ]]; then
  step "The same, live: a broker within the program, and shoppers who click" once
  exit
fi
cat <<END

All recommendations: $sample/recommendations.jsonl
Your own log: build/release/bin/freshet replay --help

== Live, until Ctrl-C: a broker within the program, and shoppers who click
   http://127.0.0.1:8080/

END
live --shoppers 50
