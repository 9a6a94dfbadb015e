#!/usr/bin/env bash
# Builds aictl, gets a Python with PyTorch, trains a small model that is slow for a reason,
# records it through eBPF and prints the reason.
#
#   examples/demo.sh [SCRIPT [ARGS…]]     another script: examples/*.py, or your own
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

command -v cargo >/dev/null || { echo "demo.sh: no cargo; get Rust from https://rustup.rs" >&2; exit 1; }
echo "== building aictl" >&2
cargo build --release --quiet
aictl=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/aictl

python=
for candidate in python3 /usr/bin/python3; do
	"$candidate" -c 'import torch' 2>/dev/null && { python=$candidate; break; }
done
if [ -z "$python" ]; then
	echo "== installing python3-torch" >&2
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends python3-torch python3-numpy >/dev/null
	python=/usr/bin/python3
fi

[ $# -gt 0 ] || set -- examples/input_few_workers.py --seconds 120
echo "== $python $*" >&2
# What a job says when it is stopped in the middle is not for the reader of the report.
said=$(mktemp)
"$python" "$@" >/dev/null 2>"$said" &
job=$!
trap 'kill $job 2>/dev/null || true; rm -f "$said"' EXIT
# Importing PyTorch and the first steps are not what makes training slow.
sleep 8
kill -0 $job 2>/dev/null || { cat "$said" >&2; echo "demo.sh: the job ended before it could be recorded" >&2; exit 1; }
echo "== aictl profile --pid $job -d 10s -w demo.pftrace" >&2
as_root "$aictl" profile --pid $job -d 10s -w demo.pftrace
