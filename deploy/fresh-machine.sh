#!/usr/bin/env bash
# Proves the README's two commands on a bare Debian: deploy/fresh-machine.sh bookworm|trixie [--keep] [--as-user]
#
# Makes a minimal Debian in a temporary directory (debootstrap), installs git, clones HEAD into it and runs ./deploy/quickstart.sh and
# ./tests/run.sh there, with the time of each. Behind a mirror or a proxy, the host's apt, pip and Maven settings and its own CA
# certificates are used. ../shared/data is visible there, read-only, where the host has it.
#
#   --keep      leave the tree for a look, and print where it is
#   --as-user   run as an ordinary user who has sudo
#
# Needs root and debootstrap, and about 6 GB below $TMPDIR. Mounts and processes live in namespaces of their own, so nothing stays
# behind, however this ends.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/bare-debian.sh
. "$root/deploy/bare-debian.sh"

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; }

fail() {
  echo "deploy/fresh-machine.sh: $*" >&2
  exit 1
}

in_checkout() {  # command of the README
  if [[ $as_user == yes ]]; then
    inside "$tree" su --login --whitelist-environment=http_proxy,https_proxy,no_proxy somebody -c "cd freshet && $1"
  else
    inside "$tree" sh -c "cd /root/freshet && $1"
  fi
}

make_user() {
  inside "$tree" apt-get install -y -qq --no-install-recommends sudo >/dev/null
  inside "$tree" useradd --create-home --shell /bin/bash somebody
  echo 'somebody ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/somebody"
}

bring_checkout() {
  inside "$tree" apt-get update -qq
  inside "$tree" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends git >/dev/null
  if [[ $as_user == yes ]]; then make_user; fi
  git clone -q --no-local "$root" "$tree$home/freshet"
  if [[ $as_user == yes ]]; then inside "$tree" chown -R somebody: "$home"; fi
  if [[ -d $root/../shared/data ]]; then
    mkdir -p "$tree$home/shared/data"
    mount --bind "$root/../shared/data" "$tree$home/shared/data"
    mount -o remount,bind,ro "$tree$home/shared/data"
  fi
}

prove() {
  echo "freshet $(git -C "$root" rev-parse --short HEAD) on a bare Debian $suite in $tree"
  if ! git -C "$root" diff --quiet HEAD; then echo "Changes that are not committed are left out."; fi
  local command commands=("./deploy/quickstart.sh --once" "./deploy/quickstart.sh --once" ./tests/run.sh)  # the first twice: it breaks nothing
  for command in "${commands[@]}"; do
    grep -qE "^ *${command% --once}( |\$)" "$root/README.md" || fail "README.md does not name $command"
  done
  timed "debootstrap $suite" make_tree "$tree" "$home"
  timed "git, and a clone of HEAD" bring_checkout
  for command in "${commands[@]}"; do
    timed "$command" in_checkout "$command"
  done
  printf '\nThe README'\''s two commands work on a bare Debian %s:\n' "$suite"
  printf '%s\n' "${times[@]}"
}

main() {
  suite='' keep=no as_user=no home=/root times=()
  local argument
  for argument in "$@"; do
    case $argument in
      bookworm | trixie) suite=$argument ;;
      --keep) keep=yes ;;
      --as-user) as_user=yes home=/home/somebody ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
  done
  if [[ -z $suite ]]; then
    usage >&2
    exit 2
  fi
  if [[ -n ${FRESHET_TREE:-} ]]; then  # the second time, within the namespaces
    tree=$FRESHET_TREE
    prove
    return
  fi
  tree=$(mktemp -d "${TMPDIR:-/tmp}/freshet-$suite.XXXXXX")
  chmod 755 "$tree"
  trap 'if [[ $keep == yes ]]; then echo "The tree stays in $tree"; else rm -rf --one-file-system "$tree" "$tree.log"; fi' EXIT
  FRESHET_TREE=$tree in_namespaces "$0" "$@"
}

main "$@"
