#!/usr/bin/env bash
# Makes what is released: the binary, its archive, checksum, list of parts and krew manifest, in dist/.
#
#   deploy/release.sh                       for this machine's kind
#   TARGET=x86_64-unknown-linux-musl deploy/release.sh
#   BINARY=target/debug/aictl deploy/release.sh      with a binary that is there
#   URL=https://…/aictl-0.1.0-linux-amd64.tar.gz deploy/release.sh     where the archive will lie
#
# A binary runs on machines with the glibc that it was linked with, or a newer one; the script says
# which that is. For old machines run it where glibc is old: in a container of Debian 11 (2.31), say.
#
#   docker run --rm -v "$PWD":/src -w /src rust:1-bullseye deploy/release.sh
#
# Static, with musl: `rustup target add x86_64-unknown-linux-musl` and musl-tools. Such a binary can't
# load NVML or CUDA's driver, which are shared libraries: it is for laptops (top --fleet, diagnose,
# queue, submit, report, timeline), not for nodes with GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
case $target in
	x86_64-*) arch=amd64 ;;
	aarch64-*) arch=arm64 ;;
	*) printf 'no archive for %s: add its name here\n' "$target" >&2; exit 2 ;;
esac
if [ -z "${BINARY:-}" ]; then
	cargo build --release --locked --target "$target"
	BINARY=${CARGO_TARGET_DIR:-target}/$target/release/aictl
fi
if command -v objdump >/dev/null; then
	newest=$(objdump -T "$BINARY" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 || true)
	printf 'needs %s\n' "${newest:-no glibc: it is static}" >&2
fi
name=aictl-$version-linux-$arch
[[ $target == *musl* ]] && name=$name-static
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p dist "$stage/$name/man" "$stage/$name/completions"
install -m 755 "$BINARY" "$stage/$name/aictl"
install -m 755 deploy/krew/kubectl_complete-aictl "$stage/$name/"
install -m 644 LICENSE README.md "$stage/$name/"
install -m 644 man/* "$stage/$name/man/"
install -m 644 completions/* "$stage/$name/completions/"
# The same input gives the same archive: names in order, one time, no owner.
tar --sort=name --mtime="@${SOURCE_DATE_EPOCH:-0}" --owner=0 --group=0 --numeric-owner \
	-C "$stage/$name" -cf - . | gzip -n >"dist/$name.tar.gz"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
deploy/sbom.sh "$target" >"dist/$name.cdx.json"
sum=$(cut -d' ' -f1 "dist/$name.tar.gz.sha256")
sed -e "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@SHA256@|$sum|; s|@URL@|${URL:-https://example.com/$name.tar.gz}|" \
	deploy/krew/aictl.yaml >dist/aictl.yaml
printf 'dist/%s\n' "$name.tar.gz" "$name.tar.gz.sha256" "$name.cdx.json" aictl.yaml >&2
