#!/bin/sh
# Three C programs as one signed release: compiled to WebAssembly (WASI preview 1), bundled behind one dispatcher, and each run by the hash of its file.
#
#   bundle.sh [DIRECTORY]      everything is made there; default: bundle-example
#
# Needs root, because vkernel makes containers, and of Debian's packages clang, lld, wasi-libc and libclang-rt-dev-wasm32. From the environment:
#   CC        a clang that can make WebAssembly
#   SYSROOT   where WASI's C library is: the directory above include/wasm32-wasi and lib/wasm32-wasi
#   RECOMPILER, VKERNEL   other programs than those in PATH
set -eu
here=$(dirname "$0")
out=${1:-bundle-example}
CC=${CC:-clang}
SYSROOT=${SYSROOT:-/usr}
RECOMPILER=${RECOMPILER:-recompiler-build}
VKERNEL=${VKERNEL:-vkernel}
mkdir -p "$out/root/tmp"

# Debian's C library lies where clang looks with this older name of the target, of which newer ones warn.
for name in count crc32 sortlines; do
    "$CC" --target=wasm32-wasi --sysroot="$SYSROOT" -O2 -Wall -Wno-deprecated -o "$out/$name.wasm" "$here/$name.c"
done

# A key, unless there is one: build.key signs, build.pub is what hosts trust.
[ -e "$out/build.key" ] || "$RECOMPILER" keygen "$out/build.key"

# One release: native code ahead of time, one megabinary, a manifest that lists the three files by their hashes. --install makes the root directory that they run in.
"$RECOMPILER" bundle "count=$out/count.wasm" "crc32=$out/crc32.wasm" "sortlines=$out/sortlines.wasm" \
    --output "$out/container.wasm" --manifest "$out/manifest.json" --key "$out/build.key" --install "$out/root"

run() {
    "$VKERNEL" run "$out/manifest.json" --rootfs "$out/root" --key "$out/build.pub" -- "$@"
}
printf 'pear\napple\nquince\napple\n' > "$out/root/tmp/fruit"

echo "== sortlines -u"
run sortlines -u < "$out/root/tmp/fruit"
echo "== count /tmp/fruit"
run count /tmp/fruit
echo "== crc32"
run crc32 < "$out/root/tmp/fruit"

# What counts is the file's hash, not its name.
echo "== a copy by another name"
cp "$out/root/usr/bin/crc32" "$out/root/tmp/copy"
run /tmp/copy < "$out/root/tmp/fruit"

# One byte is another: refused, with status 126, before anything of it runs.
echo "== a changed byte"
size=$(($(wc -c < "$out/root/tmp/copy")))
printf '\377' | dd of="$out/root/tmp/copy" bs=1 seek=$((size - 1)) conv=notrunc status=none
status=0
run /tmp/copy < "$out/root/tmp/fruit" || status=$?
echo "refused with status $status"
[ "$status" = 126 ]
