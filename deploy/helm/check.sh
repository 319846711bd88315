#!/usr/bin/env bash
# The chart as Helm and Kubernetes see it: deploy/helm/check.sh
#
# Lints it, renders it with the defaults and with every option set, holds each object against Kubernetes' own schemas, and the configuration
# that comes out against freshet's (tests/deploy/chart_test.py). Where there is no helm, Go 1.24 or later builds it, once, into
# build/helm: some minutes; kubernetes-validate comes from PyPI, likewise. $FRESHET names the program: build/release/bin/freshet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

helm=helm.sh/helm/v3/cmd/helm@v3.18.6
tools=$PWD/build/helm
export FRESHET=${FRESHET:-$PWD/build/release/bin/freshet} PATH=$tools/bin:$PATH
if [[ ! -x $FRESHET ]]; then
  echo "deploy/helm/check.sh: $FRESHET: there is no program; expected one there or in FRESHET" >&2
  exit 1
fi
if ! command -v helm >/dev/null; then
  if ! command -v go >/dev/null; then
    echo "deploy/helm/check.sh: there is neither helm nor Go (1.24 or later) to build it: https://helm.sh" >&2
    exit 1
  fi
  GOBIN=$tools/bin go install "$helm"
fi
if ! command -v kubernetes-validate >/dev/null; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet kubernetes-validate
fi
python3 -B tests/deploy/chart_test.py
