#!/usr/bin/env bash
# Installs the Debian packages that freshet needs: deploy/install-dependencies.sh [build|test|package|train|fuzz]...
#
#   build   what compiling and running freshet takes (the default)
#   test    what tests/run.sh takes besides: GoogleTest, a Java runtime and Maven for a local Kafka, Python for the parity
#           tests, Prometheus for the alert rules (where systemd runs, Debian starts it on port 9090)
#   package what cpack takes besides, to make a .deb
#   train   what inference/training takes besides: PyTorch
#   fuzz    what tests/fuzz/run.sh takes besides: clang with libFuzzer
#
# Debian 12 and 13, as root or through sudo. Where nothing is missing it asks neither the network nor for a password.
set -euo pipefail

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }

release() {  # the Debian release by its number; empty elsewhere
  (
    # shellcheck source=/dev/null
    . /etc/os-release
    if [[ ${ID:-} == debian ]]; then echo "${VERSION_ID:-}"; fi
  )
}

packages() {  # group, Debian release -> its packages
  local boost=libboost1.83-dev java=openjdk-21-jre-headless onnx="python3-onnx python3-onnxruntime"
  if [[ $2 == 12 ]]; then
    boost=libboost1.81-dev java=openjdk-17-jre-headless onnx=python3-onnx  # which has no onnxruntime
  fi
  case $1 in
    build)
      echo g++ cmake curl ninja-build ccache pkg-config "$boost" libcli11-dev libdnnl-dev libhwy-dev libjs-bootstrap5 libjs-chart.js libprotobuf-dev \
        librdkafka-dev librocksdb-dev libsimdjson-dev libspdlog-dev libssl-dev libxxhash-dev libyaml-cpp-dev libzstd-dev nlohmann-json3-dev \
        prometheus-cpp-dev protobuf-compiler zlib1g-dev
      ;;
    test)
      echo libgtest-dev libgmock-dev libbenchmark-dev kcat prometheus maven "$java" openssl ca-certificates chromium python3-venv "$onnx" \
        python3-confluent-kafka python3-jsonschema python3-protobuf python3-yaml
      packages package "$2"
      packages train "$2"
      ;;
    package) echo dpkg-dev file python3 ;;
    train) echo python3 python3-numpy python3-matplotlib python3-torch libopenblas0-pthread ;;
    fuzz) echo clang libclang-rt-dev libomp-dev ;;
  esac
}

missing() {  # packages -> those that are not installed
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "$@" | sort -u | grep -vxFf <(printf '%s\n' "$installed") || true
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "deploy/install-dependencies.sh: this needs root or sudo: $*" >&2
    exit 1
  fi
}

main() {
  if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    usage
    return
  fi
  [[ $# -gt 0 ]] || set -- build
  local debian group wanted=() needed
  debian=$(release)
  for group in "$@"; do
    if [[ $group != build && $group != test && $group != package && $group != train && $group != fuzz ]]; then
      echo "deploy/install-dependencies.sh: \"$group\": expected build, test, package, train or fuzz" >&2
      exit 2
    fi
    # The list for Debian 13 names the libraries well enough for other systems, too.
    mapfile -t -O "${#wanted[@]}" wanted < <(packages "$group" "${debian:-13}" | tr ' ' '\n')
  done
  if [[ $debian != 12 && $debian != 13 ]]; then
    echo "deploy/install-dependencies.sh knows Debian 12 and 13. Here, please install what these packages of Debian 13 hold:" >&2
    printf '  %s\n' "${wanted[@]}" >&2
    exit 1
  fi
  needed=$(missing "${wanted[@]}")
  if [[ -z $needed ]]; then
    echo "All Debian packages needed to $* are installed."
    return
  fi
  # shellcheck disable=SC2086  # one word each
  echo "Installing for $*:" $needed
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq || echo "apt-get update failed; going on with the package lists at hand." >&2
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $needed
}

main "$@"
