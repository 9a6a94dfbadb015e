#!/usr/bin/env bash
# Everything that has to hold before a change is merged: format, lints, tests, generated files.
#
# Installs what the tests need first (with apt, as root or through sudo; PyPI packages under
# tests/support/cache), which is quick once it is there. Needs Rust. What cannot be had is said,
# and its tests are skipped; with CI=true or AICTL_REQUIRE_ALL=1 they fail instead.
#
#   ./test.sh                 all
#   ./test.sh --no-install    all, with what is there
#   ./test.sh -- ARGS…        ARGS go to cargo test
set -euo pipefail
cd "$(dirname "$0")"

install=yes
[ "${1:-}" = --no-install ] && { install=no; shift; }
[ "${1:-}" = -- ] && shift
cache=$PWD/tests/support/cache
[ "${CI:-}" = true ] && export AICTL_REQUIRE_ALL=${AICTL_REQUIRE_ALL:-1}
started=$SECONDS

say() { printf '== %s\n' "$*"; }
missing=$(mktemp)
log=$(mktemp)
fetching=
# Under `set -e` a trap's own failure becomes the exit status: what has ended cannot be killed.
tidy() {
	[ -z "$fetching" ] || kill "$fetching" 2>/dev/null || true
	rm -f "$missing" "$log"
}
trap tidy EXIT
# A file, since part of this runs in a process beside the compiler.
lacks() {
	printf '%s\n' "$1" >>"$missing"
	printf 'cannot have %s\n' "$1" >&2
}
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

# Debian and Ubuntu packages: a C compiler to link with, clang to check the compiled eBPF objects,
# Python with PyTorch to be recorded, tmux for the tests at a real terminal, etcd for a Kubernetes
# API server, Slurm (each test starts one of its own; the system's services are not used) and a
# network namespace for Ray.
system_packages() {
	command -v apt-get >/dev/null || { lacks "apt packages (no apt-get here)"; return; }
	local wanted=() package
	for package in gcc libc6-dev binutils clang-19 llvm-19 libbpf-dev python3 python3-dev python3-venv python3-numpy python3-torch tmux curl openssl etcd-server nginx docker-registry zstd slurmctld slurmd slurmrestd slurm-client slurm-wlm-basic-plugins slurm-wlm-jwt-plugin munge util-linux iproute2 jq; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || wanted+=("$package")
	done
	[ ${#wanted[@]} = 0 ] && return
	say "apt: ${wanted[*]}"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update || true
	# One by one where they do not all install: an older release may not have all of them.
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends "${wanted[@]}" >/dev/null && return
	for package in "${wanted[@]}"; do
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -qqy install --no-install-recommends "$package" >/dev/null || lacks "$package"
	done
}

rust_components() {
	command -v cargo >/dev/null || { echo "test.sh: no cargo; get Rust from https://rustup.rs" >&2; exit 1; }
	local component
	for component in fmt clippy; do
		cargo "$component" --version >/dev/null 2>&1 && continue
		rustup component add "${component/fmt/rustfmt}" || { echo "test.sh: cargo has no $component" >&2; exit 1; }
	done
}

# environment NAME RECIPE: makes cache/NAME with the function RECIPE, unless it was made by the same recipe.
environment() {
	local name=$1 recipe=$2 stamp
	stamp=$(declare -f "$recipe")
	[ -f "$cache/$name/.recipe" ] && [ "$(cat "$cache/$name/.recipe")" = "$stamp" ] && return
	say "PyPI packages for $name"
	rm -rf "${cache:?}/$name"
	mkdir -p "$cache"
	if /usr/bin/python3 -m venv "$cache/$name" && "$recipe" "$cache/$name/bin/python"; then
		printf '%s' "$stamp" >"$cache/$name/.recipe"
	else
		rm -rf "${cache:?}/$name"
		lacks "PyPI packages for $name"
	fi
}
pip() { "$1" -m pip install --quiet --disable-pip-version-check "${@:2}"; }

# To read our recordings with somebody else's code, and NVIDIA's real libraries to attach to.
venv_packages() {
	pip "$1" perfetto protobuf nvidia-cuda-runtime nvidia-nccl-cu13
}

# What the hub's own tools make of our store, and an S3 that is not ours.
models_packages() {
	pip "$1" huggingface_hub boto3 "moto[s3,server]"
}

# A current PyTorch. It loads NVIDIA's libraries even without a GPU, but not Triton: 1 GB less.
torch_packages() {
	pip "$1" --no-deps torch
	local requirements
	mapfile -t requirements < <("$1" -c 'import importlib.metadata as m
for need in m.requires("torch"):
    if not need.startswith(("triton", "cuda-bindings")) and "extra ==" not in need: print(need)')
	pip "$1" --no-warn-conflicts numpy "${requirements[@]}"
	"$1" -c 'import torch, numpy; torch.zeros(2) + 1'
}

# A Ray cluster of two nodes to submit jobs to.
ray_packages() {
	pip "$1" 'ray[default]'
}

# The Pythons that tests record; pyenv's and the system's are used where they are.
pythons() {
	local version
	for version in 3.9 3.10 3.11 3.12 3.13 3.14; do
		compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python$version" >/dev/null && continue
		compgen -G "$HOME/.local/share/uv/python/cpython-$version.*/bin/python$version" >/dev/null && continue
		[ -x "/usr/bin/python$version" ] && continue
		if [ ! -x "$cache/uv/bin/uv" ]; then
			{ /usr/bin/python3 -m venv "$cache/uv" && pip "$cache/uv/bin/python" uv; } || { lacks "uv"; return; }
		fi
		say "Python $version"
		"$cache/uv/bin/uv" python install --quiet --no-bin "$version" 2>/dev/null || lacks "Python $version"
	done
}

# A Kubernetes API server: built from its Go modules the first time, some minutes.
control_plane() {
	tests/support/kube.sh --built >/dev/null 2>&1 && return
	say "kube-apiserver"
	tests/support/kube.sh >/dev/null || lacks "kube-apiserver"
}

# What the tests load takes minutes of waiting: beside the compiler, which needs none of it.
beside() {
	environment venv venv_packages
	environment models models_packages
	environment torch torch_packages
	environment ray ray_packages
	pythons
	control_plane
}

rust_components
if [ $install = yes ]; then
	system_packages
	beside &
	fetching=$!
fi

# eBPF needs root: only the test programs get it, not the build.
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then
	triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
	export "CARGO_TARGET_${triple}_RUNNER=sudo -E"
fi

status=0
broken=()
check() {
	say "$1"
	"${@:2}" || { status=1; broken+=("$1"); }
}
check format cargo fmt --check
check lints cargo clippy --quiet --all-targets -- -D warnings
say "tests"
# Built first; what is wrong is told once, by the run.
cargo test --no-run --quiet 2>/dev/null || true
[ -z "$fetching" ] || wait "$fetching" || lacks "all that the tests load"
cargo test --no-fail-fast "$@" 2>&1 | tee "$log" || { status=1; broken+=(tests); }

# libtest counts a skipped test as passed; it says so itself.
sum() { sed -nE "s/^test result: .* ([0-9]+) $1.*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }
skipped=$(grep -aoE 'skipped: .*' "$log" | sort -u || true)
count=$(printf '%s' "$skipped" | grep -c . || true)
passed=$(($(sum passed) - count))
failed=$(sum failed)
ignored=$(sum ignored)
echo
[ "$count" = 0 ] || printf '%s\n' "$skipped"
[ ! -s "$missing" ] || printf 'not to be had here: %s\n' "$(paste -sd, "$missing")"
printf 'in %d s\n' $((SECONDS - started))
# A run that broke before its tests must not read as one without failures.
[ ${#broken[@]} = 0 ] || printf 'broken: %s\n' "${broken[*]}"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" $((count + ignored))
exit $status
