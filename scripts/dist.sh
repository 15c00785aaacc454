#!/usr/bin/env bash
# Makes target/dist/blip-VERSION-x86_64-linux.tar.gz: the program, its licences, completions, documentation, workflows, and
# the script that fetches libtorch where there is none.
#
# The same tree, compiled by the same Rust and C++ compilers, gives the same bytes: no time, no user and no folder of this
# machine goes into it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=blip-$version-x86_64-linux
out=target/dist
stage=$out/$name
# The earliest time that every archive format can hold.
mtime=1980-01-01T00:00:00Z

scripts/libtorch.sh
libtorch=$(readlink -f "${LIBTORCH:-.libtorch}")
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
export BLIP_PORTABLE=1
export CARGO_PROFILE_RELEASE_STRIP=debuginfo
export RUSTFLAGS="--remap-path-prefix=$PWD=/blip --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$sysroot=/rust"
prefixes="-ffile-prefix-map=$PWD=/blip -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$libtorch=/libtorch"
export CFLAGS=$prefixes CXXFLAGS=$prefixes
cargo build --release --locked --bin blip --target-dir "$out/build"
program=$out/build/release/blip

rm -rf "$stage"
mkdir -p "$stage/complete"
cp "$program" README.md CHANGELOG.md LICENSE scripts/libtorch.sh "$stage/"
cp -r docs workflows "$stage/"
mkdir "$stage/libtorch"
cp scripts/libtorch/{cpu.txt,cuda.txt,unpack.py} "$stage/libtorch/"
"$program" completions bash >"$stage/complete/blip.bash"
"$program" completions zsh >"$stage/complete/_blip"
"$program" completions fish >"$stage/complete/blip.fish"
python3 scripts/dist/third_party.py >"$stage/THIRD-PARTY.txt"
# A workflow that was run here has its cache beside it.
rm -rf "$stage/workflows/.blip"

tar --create --directory "$out" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
  --mtime="$mtime" "$name" | gzip --no-name --best >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
