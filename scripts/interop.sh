#!/usr/bin/env bash
# Shards go from Python to blip and back: the webdataset library and Hugging Face datasets read what blip exports.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/interop-venv
work=target/interop

if [ ! -e "$venv/ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet webdataset==1.0.2 datasets==4.4.1 pillow==13.0.0
    touch "$venv/ready"
fi
cargo build --release --bin blip

rm -rf "$work"
"$venv/bin/python" tests/interop/write_shards.py "$work"
cp tests/interop/pairs.blip "$work/"
target/release/blip run "$work/pairs.blip"
HF_HUB_OFFLINE=1 "$venv/bin/python" tests/interop/read_shards.py "$work"
