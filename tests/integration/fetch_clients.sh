#!/usr/bin/env bash
# Fetches the Kafka clients of docs/consume.md that Debian does not have, or not new enough: those of Go and Node.js, with the page's own
# commands, into ${XDG_CACHE_HOME:-~/.cache}/freshet/clients. integration.consumers_kafka then runs those examples, too.
#
# Needs go or npm, or both, and their registries.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
clients=${XDG_CACHE_HOME:-$HOME/.cache}/freshet/clients

if command -v npm >/dev/null; then
  mkdir -p "$clients/node"
  (cd "$clients/node" && $(grep -m 1 '^npm install' "$root/docs/consume.md") --no-audit --no-fund)
else
  echo "tests/integration/fetch_clients.sh: no npm here" >&2
fi
if command -v go >/dev/null; then
  mkdir -p "$clients/go"
  cd "$clients/go"
  [[ -f go.mod ]] || go mod init consume
  grep -A 100 '^// consume.go' "$root/docs/consume.md" | sed '/^```/,$d' >consume.go  # so that go.sum has all it imports
  # shellcheck disable=SC2091  # it is the command
  $(grep -m 1 '^go get' "$root/docs/consume.md")
  go mod tidy
else
  echo "tests/integration/fetch_clients.sh: no go here" >&2
fi
