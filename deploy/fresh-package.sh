#!/usr/bin/env bash
# Proves the Debian package and the image's steps in bare Debian trees: deploy/fresh-package.sh bookworm|trixie [--deb FILE] [--keep]
#
# Runs the Dockerfile's RUN lines, as they stand: those of the first stage on a clone of HEAD in a bare tree, which makes the package,
# those of the second in another bare tree, which installs it. There the service's own command then runs as the service's user, without
# capabilities and with everything but /var/lib/freshet read-only, against a local Kafka of the host's: it must be healthy by the
# Dockerfile's health check, answer events, use no system call that the unit forbids, end with 0 on SIGTERM; and a purge must keep the
# state, unless it is asked.
#
#   --deb FILE  install this package, made on the same release, and build none
#   --keep      leave the trees for a look, and print where they are
#
# Needs root, debootstrap, strace and what deploy/local-kafka.sh needs, and 6 GB below $TMPDIR (2 GB with --deb). Mounts and processes
# live in namespaces of their own, so nothing stays behind, however this ends.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/bare-debian.sh
. "$root/deploy/bare-debian.sh"
readonly events=2000

usage() { sed -n '2,16s/^# \{0,1\}//p' "$0"; }

fail() {
  echo "deploy/fresh-package.sh: $*" >&2
  exit 1
}

run_lines() {  # stage, from 1 -> its RUN lines, one each
  sed -e ':a' -e '/\\$/N; s/\\\n */ /; ta' "$root/Dockerfile" | awk -v stage="$1" '/^FROM /{n++} n==stage && sub(/^RUN /, "")'
}

run_stage() {  # tree, stage, folder
  local line
  while read -r line <&3; do
    echo "+ $line"
    inside "$1" env DEBIAN_FRONTEND=noninteractive sh -euc "cd $3 && $line"
  done 3< <(run_lines "$2")
}

build_package() {
  make_tree "$trees/build" /root
  git clone -q --no-local "$root" "$trees/build/src"
  run_stage "$trees/build" 1 /src
  deb=$(echo "$trees"/build/package/freshet_*.deb)
}

install_package() {
  make_tree "$tree" /root
  mkdir "$tree/package"
  cp "$deb" "$tree/package/"
  run_stage "$tree" 2 /
  inside "$tree" freshet --version
  [[ $(inside "$tree" stat -c '%U:%G %a' /var/lib/freshet) == 'freshet:freshet 750' ]] || fail "/var/lib/freshet is not freshet's"
}

lock_tree() {  # as ProtectSystem=strict and a read-only image do
  mount --bind "$tree" "$tree"
  mount -t proc proc "$tree/proc"
  mount --rbind /dev "$tree/dev"
  mount --bind "$tree/var/lib/freshet" "$tree/var/lib/freshet"
  mount -o remount,bind,ro "$tree"
}

start_service() {  # the unit's ExecStart
  local command
  command=$(sed -n 's/^ExecStart=//p' "$tree/usr/lib/systemd/system/freshet.service")
  # shellcheck disable=SC2086,SC2016  # words of the unit; the inner shell's
  strace -f -q -o "$trees/calls" chroot "$tree" env -i PATH=/usr/bin:/bin "FRESHET_KAFKA__BOOTSTRAP_SERVERS=$address" \
    sh -c 'cd /var/lib/freshet && exec "$@"' - \
    setpriv --reuid freshet --regid freshet --clear-groups --no-new-privs --bounding-set=-all $command &
  service=$!
}

is_healthy() {  # the Dockerfile's health check
  local words
  mapfile -t words < <(sed -n 's/^HEALTHCHECK .* CMD //p' "$root/Dockerfile" | python3 -c 'import json, sys
print("\n".join(json.load(sys.stdin)))')
  inside "$tree" setpriv --reuid freshet --regid freshet --clear-groups "${words[@]}" 2>/dev/null
}

wait_for() {  # what, command...
  local what=$1
  shift
  for _ in {1..240}; do
    if "$@"; then return; fi
    kill -0 "$service" 2>/dev/null || fail "the service ended before: $what"
    sleep 0.5
  done
  fail "$what: not within two minutes"
}

answered() {
  [[ $(kcat -b "$address" -C -e -q -t freshet.recommendations -X isolation.level=read_committed | wc -l) -ge $events ]]
}

start_kafka() {
  local topic
  "$root/deploy/local-kafka.sh" start --port 0 --directory "$trees/kafka" >/dev/null
  trap '"$root/deploy/local-kafka.sh" stop --directory "$trees/kafka" >/dev/null' EXIT
  address=$("$root/deploy/local-kafka.sh" address --directory "$trees/kafka")
  for topic in events recommendations dead-letters; do
    "$root/deploy/local-kafka.sh" create-topic "freshet.$topic" 2 --directory "$trees/kafka" >/dev/null
  done
}

run_service() {
  start_kafka
  lock_tree
  if inside "$tree" touch /etc/freshet/new 2>/dev/null; then fail "the tree can be written to"; fi
  start_service
  wait_for "healthy by the image's health check" is_healthy
  inside "$tree" freshet generate --users 200 --items 2000 --events "$events" --seed 2 --output /var/lib/freshet/clicks.jsonl
  sed 's/.*"user_id":"\([^"]*\)".*/\1\t&/' "$tree/var/lib/freshet/clicks.jsonl" |
    kcat -b "$address" -P -t freshet.events -K '\t' -X partitioner=murmur2_random
  wait_for "$events answers" answered
  grep VmHWM "/proc/$(pgrep -P "$service" -x freshet)/status"
  pkill -TERM -P "$service" -x freshet  # strace's child
  wait "$service" || fail "SIGTERM ended it with $?"
  echo "$events events answered; ended with 0"
}

check_calls() {  # against the unit's SystemCallFilter
  local used
  used=$(sed -n '/execve("\/usr\/bin\/freshet"/,$p' "$trees/calls" | sed -nE 's/^[0-9]+ +([a-z0-9_]+)\(.*/\1/p' | sort -u)
  [[ $(wc -l <<<"$used") -gt 30 ]] || fail "strace saw too little"
  if ! command -v systemd-analyze >/dev/null; then
    echo "No systemd-analyze here: system calls are not compared with the unit's filter."
    return
  fi
  local beyond
  beyond=$(comm -23 <(echo "$used") <(comm -23 <(system_calls @system-service) <(system_calls @privileged)))
  [[ -z $beyond ]] || fail "the unit's filter would refuse: $(tr '\n' ' ' <<<"$beyond")"
  echo "$(wc -l <<<"$used") system calls, none that the unit's filter refuses"
}

system_calls() {  # set of systemd's -> its calls
  local line
  systemd-analyze syscall-filter "$1" | while read -r line; do
    case $line in
      "$1" | \#* | '') ;;
      @*) system_calls "$line" ;;
      *) echo "$line" ;;
    esac
  done | sort -u
}

purge_package() {
  mount -o remount,bind,rw "$tree"
  inside "$tree" dpkg --purge freshet
  [[ ! -e $tree/etc/freshet ]] || fail "a purge left /etc/freshet"
  [[ -d $tree/var/lib/freshet/state ]] || fail "a purge took the state away"
  inside "$tree" dpkg --install "/$(basename "$deb")" >/dev/null
  inside "$tree" env FRESHET_PURGE_STATE=yes dpkg --purge freshet
  [[ -z $(ls -A "$tree/var/lib/freshet") ]] || fail "a purge that was asked left state"
}

prove() {
  echo "freshet $(git -C "$root" rev-parse --short HEAD) as a package of Debian $suite, in $trees"
  tree=$trees/installed
  if [[ -z $deb ]]; then timed "build: the Dockerfile's first stage" build_package; fi
  ls -l "$deb"
  timed "install: the Dockerfile's second stage" install_package
  cp "$deb" "$tree/"
  timed "run, as the unit does" run_service
  check_calls
  timed "purge, without and with the state" purge_package
  printf '\nThe package can be built, installed, run and purged on a bare Debian %s:\n' "$suite"
  printf '%s\n' "${times[@]}"
}

main() {
  suite='' keep=no deb='' times=()
  local arguments=("$@")
  while [[ $# -gt 0 ]]; do
    case $1 in
      bookworm | trixie) suite=$1 ;;
      --keep) keep=yes ;;
      --deb)
        deb=$(realpath "${2:?--deb takes a file}")
        shift
        ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
    shift
  done
  if [[ -z $suite ]]; then
    usage >&2
    exit 2
  fi
  if [[ -n ${FRESHET_TREE:-} ]]; then  # the second time, within the namespaces
    trees=$FRESHET_TREE
    prove
    return
  fi
  command -v strace >/dev/null || fail "needs strace: apt-get install strace"
  trees=$(mktemp -d "${TMPDIR:-/tmp}/freshet-package-$suite.XXXXXX")
  chmod 755 "$trees"
  trap 'if [[ $keep == yes ]]; then echo "The trees stay in $trees"; else rm -rf --one-file-system "$trees"; fi' EXIT
  FRESHET_TREE=$trees in_namespaces "$0" "${arguments[@]}"
}

main "$@"
