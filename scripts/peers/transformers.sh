#!/usr/bin/env bash
# Finishes the environment of transformers in folder $1: see scripts/peer.sh, which calls it.
#
# The wheel of torch is linked against ten CUDA libraries of about 2 GB that no CPU run calls. Instead of fetching them,
# this lays empty ones of the same names beside torch: each function in them returns an error. Needs cc and nm.
set -euo pipefail
venv=$1

fail() {
  echo "peer: $1" >&2
  echo "  help: $2" >&2
  exit 1
}

for tool in cc nm; do
  command -v "$tool" >/dev/null || fail "$tool is missing" "install a C compiler (Debian: apt-get install build-essential)"
done

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

"$venv/bin/python" - <<'PY' || fail "the environment was made, but does not work" "see the message above"
import torch, transformers
from transformers import BlipForConditionalGeneration
assert torch.ones(2) @ torch.ones(2) == 2
PY
