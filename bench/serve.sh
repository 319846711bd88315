#!/usr/bin/env bash
# Look-ups of `freshet serve` by wrk, which has to be installed: bench/serve.sh [BUILD_DIRECTORY] [USERS] [SECONDS]
# Publishes a record of 10 items for each of USERS (10,000) users to a Kafka of its own (deploy/local-kafka.sh), waits until they are
# served, compares 100 answers with what was published, and asks for random users over 32 connections, three times.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/release} users=${2:-10000} seconds=${3:-10}
listen=127.0.0.1:${PORT:-18080}
scratch=$(mktemp -d)
cleanup() {
  [[ -z ${server:-} ]] || kill "$server" || true
  "$root/deploy/local-kafka.sh" stop --directory "$scratch/kafka" >&2 || true
  rm -rf "$scratch"
}
trap cleanup EXIT

"$root/deploy/local-kafka.sh" start --port 0 --directory "$scratch/kafka" >&2
broker=$("$root/deploy/local-kafka.sh" address --directory "$scratch/kafka")
"$root/deploy/local-kafka.sh" create-topic lists 4 --directory "$scratch/kafka" >&2
python3 - "$users" >"$scratch/records" <<'PYTHON'
import json, random, sys
numbers = random.Random(1)
for user in range(int(sys.argv[1])):
    items = [{"item_id": f"i{numbers.randrange(5000)}", "score": numbers.random()} for _ in range(10)]
    record = {"user_id": f"u{user}", "generated_at": 1506826800031, "sequence_number": 17,
              "model": {"name": "demo", "version": "9f2c66b00bd9f2c1"},
              "source": {"topic": "events", "partition": 3, "offset": user, "event_time": 1506826800026}, "items": items}
    print(f"u{user}\t" + json.dumps(record, separators=(",", ":")))
PYTHON
kcat -b "$broker" -P -t lists -K $'\t' -l "$scratch/records"
"$build/bin/freshet" serve --set "kafka.bootstrap_servers=$broker" --set sink.topic=lists --set "http.listen=$listen" \
  --set "serve.directory=$scratch/served" --set log.level=warn &
server=$!
until curl -sf "http://$listen/readyz" >/dev/null; do kill -0 "$server" && sleep 0.2; done
head -n 100 "$scratch/records" | while IFS=$'\t' read -r user record; do
  [[ $(curl -sf "http://$listen/v1/recommendations/$user") == "$record" ]] || { echo "wrong answer for $user" >&2; exit 1; }
done
cat >"$scratch/ask.lua" <<LUA
request = function() return wrk.format("GET", "/v1/recommendations/u" .. math.random(0, $users - 1)) end
LUA
grep -m1 'model name' /proc/cpuinfo
for _ in 1 2 3; do
  wrk -t1 -c32 -d"${seconds}s" --latency -s "$scratch/ask.lua" "http://$listen" | grep -E '50%|99%|Requests/sec|Non-2xx|Socket errors'
done
