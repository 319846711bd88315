#!/usr/bin/env bash
# The chart as Helm and Kubernetes see it: deploy/helm/check.sh
#
# Lints it, renders it with the defaults and with every option set, holds each object against Kubernetes' own schemas or KEDA's, and the
# configuration that comes out against freshet's (tests/deploy/chart_test.py). Needs Go 1.24 or later, which brings KEDA's schema and,
# where there is no helm, builds it, once, into build/helm: some minutes; kubernetes-validate comes from PyPI, likewise. $FRESHET names
# the program: build/release/bin/freshet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

helm=helm.sh/helm/v3/cmd/helm@v3.18.6
keda=github.com/kedacore/keda/v2@v2.17.2
tools=$PWD/build/helm
export FRESHET=${FRESHET:-$PWD/build/release/bin/freshet} PATH=$tools/bin:$PATH
if [[ ! -x $FRESHET ]]; then
  echo "deploy/helm/check.sh: $FRESHET: there is no program; expected one there or in FRESHET" >&2
  exit 1
fi
if ! command -v go >/dev/null; then
  echo "deploy/helm/check.sh: there is no Go (1.24 or later): https://go.dev" >&2
  exit 1
fi
if ! command -v helm >/dev/null; then GOBIN=$tools/bin go install "$helm"; fi
if [[ ! -x $tools/bin/kubernetes-validate ]]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet kubernetes-validate
fi
downloaded=$(go mod download -json "$keda" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
FRESHET_TEST_SCALED_OBJECT=$downloaded/config/crd/bases/keda.sh_scaledobjects.yaml "$tools/bin/python" -B tests/deploy/chart_test.py
