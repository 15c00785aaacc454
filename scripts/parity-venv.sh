#!/usr/bin/env bash
# Makes `.venv`, the Python that `make parity` compares with: torch, transformers and Pillow as pinned in
# tests/parity/requirements.txt. Does nothing when it is there and of these versions.
#
# The wheel of torch is linked against ten CUDA libraries of about 2 GB that no CPU run calls. Instead of fetching them,
# this lays empty ones of the same names beside torch: each function in them returns an error. Needs cc and nm.
#
# BLIP_PARITY_VENV  another place for the environment than .venv
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${BLIP_PARITY_VENV:-$root/.venv}
pins=$root/tests/parity/requirements.txt

fail() {
  echo "parity: $1" >&2
  echo "  help: $2" >&2
  exit 1
}

if cmp -s "$pins" "$venv/parity-requirements.txt"; then exit 0; fi

command -v python3 >/dev/null || fail "python3 is missing" "install python3, 3.11 or newer, with venv"
for tool in cc nm; do
  command -v "$tool" >/dev/null || fail "$tool is missing" "install a C compiler (Debian: apt-get install build-essential)"
done

echo "parity: making $venv (0.6 GB to fetch, 1.7 GB on disk, once)" >&2
python3 -m venv "$venv" || fail "python3 -m venv failed" "install it (Debian: apt-get install python3-venv)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$pins" ||
  fail "pip could not install tests/parity/requirements.txt" "see pip's message above; this needs PyPI or a mirror set in pip.conf"

lib=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/torch/lib
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for linked in libtorch_nvshmem libtorch_cuda libtorch_python libc10_cuda; do
  nm -D --undefined-only "$lib/$linked.so"
done | awk '{print $2}' | sort -u >"$work/undefined"

# stand_in FILE VERSION PATTERN: an empty FILE with the functions of symbol version VERSION, or of that pattern if they have none
stand_in() {
  grep -E "@$2\$|$3" "$work/undefined" | sed 's/@.*//; s/.*/int &(void) { return 1; }/' >"$work/functions.c" || true
  echo "$2 { global: *; };" >"$work/version"
  cc -shared -nostdlib -o "$lib/$1" -Wl,-soname,"$1" -Wl,--version-script="$work/version" "$work/functions.c"
}
none='^$'
for name in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcusparse.so.12; do stand_in "$name" "$name" "$none"; done
stand_in libnvshmem_host.so.3 NVSHMEM "$none"
stand_in libcusparseLt.so.0 libcusparseLt.so.0 '^cusparseLt[^@]*$'
stand_in libcufile.so.0 libcufile.so.0 '^cuFile[^@]*$'
stand_in libnccl.so.2 libnccl.so.2 '^nccl[^@]*$'
stand_in libcurand.so.10 libcurand.so.10 '^curand[^@]*$'

"$venv/bin/python" - <<'PY' || fail "the environment was made, but does not work" "see the message above; delete .venv to try again"
import torch, transformers
from transformers import BlipForConditionalGeneration
assert torch.ones(2) @ torch.ones(2) == 2
PY
cp "$pins" "$venv/parity-requirements.txt"
