#!/usr/bin/env bash
# Fetches libtorch, once per user, and lets a checkout find it.
#
#   scripts/libtorch.sh          in a checkout: the link `.libtorch`, which `.cargo/config.toml` names as LIBTORCH
#   ./libtorch.sh                in a release: nothing else is needed, blip looks into the folder that this fetches into
#
# LIBTORCH set      the link points there and nothing is fetched.
# otherwise         PyPI's wheel of torch holds libtorch; its headers and libraries are laid out in
#                   ${XDG_CACHE_HOME:-~/.cache}/blip/, so that a second clone fetches nothing. What is fetched is pinned by
#                   hash: libtorch/cpu.txt and libtorch/cuda.txt beside this script.
# BLIP_LIBTORCH     cpu or cuda: overrides the choice, which is cuda where an NVIDIA driver answers, else cpu.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$here/libtorch/cpu.txt")

fail() {
  echo "libtorch: $1" >&2
  echo "  help: $2" >&2
  exit 1
}

# A checkout of blip is what has this script in `scripts/`; a release has it beside the program.
root=
if [ -e "$here/../ops/torch/build.rs" ]; then root=$(dirname "$here"); fi

link() {
  if [ -n "$root" ]; then
    ln -sfn "$1" "$root/.libtorch"
  else
    echo "libtorch: libtorch $version is in $1" >&2
  fi
}

if [ -n "${LIBTORCH:-}" ] && [ "$LIBTORCH" != "$root/.libtorch" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH is $LIBTORCH, which has no lib/libtorch_cpu.so" \
    "point LIBTORCH at a libtorch $version folder (include/ and lib/), or unset it to have one fetched"
  found=$(cat "$LIBTORCH/build-version" 2>/dev/null || true)
  case "$found" in
    "$version"*) ;;
    *) fail "LIBTORCH is $LIBTORCH, version '${found:-unknown}', and this project is built for $version" \
      "point LIBTORCH at a libtorch $version folder with a build-version file, or unset it to have one fetched" ;;
  esac
  link "$LIBTORCH"
  exit 0
fi

flavour=${BLIP_LIBTORCH:-}
if [ -z "$flavour" ]; then
  if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then flavour=cuda; else flavour=cpu; fi
fi
case "$flavour" in cpu | cuda) ;; *) fail "BLIP_LIBTORCH is '$flavour'" "set it to cpu or cuda, or unset it" ;; esac

home=${XDG_CACHE_HOME:-$HOME/.cache}/blip/libtorch-$version-$flavour
if [ -e "$home/build-version" ]; then
  link "$home"
  exit 0
fi

command -v python3 >/dev/null || fail "python3 is needed to fetch libtorch from PyPI" \
  "install python3 with pip (Debian: apt-get install python3 python3-pip), or set LIBTORCH to a libtorch $version folder"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip, which is needed to fetch libtorch from PyPI" \
  "install it (Debian: apt-get install python3-pip), or set LIBTORCH to a libtorch $version folder"

mkdir -p "$(dirname "$home")"
work=$(mktemp -d "$(dirname "$home")/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "libtorch: fetching libtorch $version ($flavour) into $home, once per user" >&2
# Wheels name a Python version, libtorch does not depend on it: any one will do, so take the one that is pinned.
platforms=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
for glibc in $(seq 28 -1 5); do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
  --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 "${platforms[@]}" \
  --dest "$work/wheels" --requirement "$here/libtorch/$flavour.txt" >&2 ||
  fail "pip could not fetch torch==$version" \
    "see pip's message above: this needs PyPI (or a mirror set in pip.conf) and 0.6 GB (cuda: 3 GB) of disk;
        without a network, set LIBTORCH to a libtorch $version folder"
python3 "$here/libtorch/unpack.py" "$work/wheels" "$work/layout" "$flavour" "$version" ||
  fail "the fetched wheels could not be unpacked" "see the message above; check that there is room in $(dirname "$home")"
# The rename is the commit: a fetch that dies half-way leaves no folder that looks complete.
mv "$work/layout" "$home" 2>/dev/null || [ -e "$home/build-version" ] || fail "could not create $home" "check that the folder is writable"
link "$home"
