# Bare Debian trees, for deploy/fresh-machine.sh and deploy/fresh-package.sh, which source this. Reads $suite, the release. A tree is
# mounted in the caller's own namespaces, so that nothing stays behind, however that ends.
# shellcheck shell=bash disable=SC2154

timed() {  # title, command...
  local title=$1 start=$SECONDS
  shift
  printf '\n=== %s\n' "$title"
  "$@"
  times+=("$(printf '%6d s  %s' $((SECONDS - start)) "$title")")
}

host_mirror() {  # where the host gets Debian from; empty if it does not
  # shellcheck disable=SC2016  # apt's own variables
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 2>/dev/null | sed -n 's/^Debian //p' | head -n 1 || true
}

copy_host_settings() {  # tree, home of whoever works in it
  local path
  apt-config dump | grep -E '^Acquire::(http|https|Check-)' >"$1/etc/apt/apt.conf.d/00host" || true
  cp -L /etc/resolv.conf /etc/hosts "$1/etc/"
  for path in /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/pip.conf /usr/local/share/ca-certificates; do
    if [[ -e $path ]]; then
      mkdir -p "$1$(dirname "$path")"
      cp -rL "$path" "$1$(dirname "$path")/"
    fi
  done
  for path in .m2/settings.xml .config/pip/pip.conf; do
    if [[ -e $HOME/$path ]]; then
      install -D -m 644 "$HOME/$path" "$1$2/$path"
    fi
  done
}

make_tree() {  # tree, home of whoever works in it
  local mirror
  mirror=$(host_mirror)
  debootstrap --variant=minbase "$suite" "$1" ${mirror:+"$mirror"} >"$1.log" || { tail "$1.log" && return 1; }
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  copy_host_settings "$1" "$2"
}

inside() {  # tree, command...: runs it there, with the proxies of the host and nothing else of its environment
  local settings=() name tree=$1
  shift
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL MAVEN_OPTS; do
    if [[ -n ${!name:-} ]]; then settings+=("$name=${!name}"); fi
  done
  chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "${settings[@]}" "$@"
}

in_namespaces() {  # script, arguments...: runs it again, as root, with mounts and processes of its own
  [[ $EUID -eq 0 ]] || fail "needs root"
  command -v debootstrap >/dev/null || fail "needs debootstrap: apt-get install debootstrap"
  unshare --mount --mount-proc --pid --fork --kill-child bash "$@"
}
