#!/usr/bin/env bash
# Compiles the kernel side. `cargo build` uses the committed objects; run this after a change
# to a .bpf.c or .bpf.h file. With --check DIR it writes the objects there instead.
#
# Needs clang 19 and libbpf's headers: apt install clang-19 libbpf-dev
set -euo pipefail
cd "$(dirname "$0")"
out=.
[ "${1:-}" = --check ] && out=$2
clang=${CLANG:-clang-19}
command -v "$clang" >/dev/null || { echo "build.sh: $clang not found; apt install clang-19 libbpf-dev" >&2; exit 3; }
for source in *.bpf.c; do
	object=$out/${source%.bpf.c}.bpf.o
	"$clang" -target bpf -mcpu=v3 -g -O2 -Wall -Werror -Wno-unused-function -D__TARGET_ARCH_x86 \
		-fdebug-prefix-map="$PWD"=. -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object"
	# DWARF is not needed at run time; BTF and relocations stay.
	"${clang/clang/llvm-strip}" -g "$object"
done
