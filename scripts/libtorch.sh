#!/usr/bin/env bash
# Puts libtorch where cargo finds it: `.libtorch` in this checkout, a link that `.cargo/config.toml` names as LIBTORCH.
#
#   scripts/libtorch.sh          link it, fetching it first if this user has none yet
#
# LIBTORCH set      the link points there and nothing is fetched.
# otherwise         the PyPI wheel of torch holds libtorch; its headers and libraries are laid out once per user in
#                   ${XDG_CACHE_HOME:-~/.cache}/blip/, so that a second clone fetches nothing.
# BLIP_LIBTORCH     cpu or cuda: overrides the choice, which is cuda where an NVIDIA driver answers, else cpu.
set -euo pipefail

version=2.11.0              # the libtorch that tch 0.24.0 binds; the two change together
cuda_runtime=13.0.96        # libtorch_cpu.so of the PyPI wheel is itself linked against these two
cuda_cupti=13.0.85

root=$(cd "$(dirname "$0")/.." && pwd)

fail() {
  echo "libtorch: $1" >&2
  echo "  help: $2" >&2
  exit 1
}

link() {
  ln -sfn "$1" "$root/.libtorch"
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

# Wheels name a Python version, libtorch does not depend on it: any one will do, so take one that exists.
pip() {
  python3 -m pip download --quiet --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
    --dest "$work/wheels" "$@"
}
echo "libtorch: fetching libtorch $version ($flavour) into $home, once per user" >&2
if [ "$flavour" = cpu ]; then
  fetch() { pip --no-deps "torch==$version" "nvidia-cuda-runtime==$cuda_runtime" "nvidia-cuda-cupti==$cuda_cupti"; }
else
  fetch() { pip --no-deps "torch==$version" && pip "torch==$version"; }
fi
fetch || fail "pip could not fetch torch==$version" \
  "see pip's message above: this needs PyPI (or a mirror set in pip.conf) and 0.6 GB (cuda: 3 GB) of disk;
        without a network, set LIBTORCH to a libtorch $version folder"

python3 - "$work" "$flavour" "$version" <<'PY'
import glob, os, re, sys, zipfile
work, flavour, version = sys.argv[1:]
out = os.path.join(work, "layout")
cpu = re.compile(r"lib/(libtorch_cpu|libtorch|libc10)\.so$|lib/libgomp[^/]*\.so[^/]*$|lib/lib(cudart|cupti)\.so\.\d+$")
for wheel in glob.glob(os.path.join(work, "wheels", "*.whl")):
    with zipfile.ZipFile(wheel) as z:
        for name in z.namelist():
            base = os.path.basename(name)
            if not base:
                continue
            if name.startswith("torch/include/"):
                target = os.path.join(out, name[len("torch/"):])
            elif ".so" in base and "/lib/" in name and "python" not in base:
                if flavour == "cpu" and not cpu.search(name):
                    continue
                target = os.path.join(out, "lib", base)
            else:
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with z.open(name) as src, open(target, "wb") as dst:
                while block := src.read(1 << 24):
                    dst.write(block)
lib = os.path.join(out, "lib")
gomp = [n for n in os.listdir(lib) if n.startswith("libgomp")]
if gomp:
    for alias in ("libgomp.so.1", "libgomp.so"):
        if alias not in gomp:
            os.symlink(gomp[0], os.path.join(lib, alias))
missing = [n for n in ("libtorch_cpu.so", "libtorch.so", "libc10.so") if not os.path.exists(os.path.join(lib, n))]
if missing:
    sys.exit("libtorch: the fetched wheel lacks " + ", ".join(missing))
with open(os.path.join(out, "build-version"), "w") as f:
    f.write(version + "\n")
PY
# The rename is the commit: a fetch that dies half-way leaves no folder that looks complete.
mv "$work/layout" "$home" 2>/dev/null || [ -e "$home/build-version" ] || fail "could not create $home" "check that the folder is writable"
link "$home"
