#!/usr/bin/env bash
# Shards go from Python to blip and back: the webdataset library and Hugging Face datasets read what blip exports. Mermaid and
# Graphviz read the graphs that blip prints, where npm is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
work=target/interop

webdataset=$(scripts/peer.sh webdataset)
datasets=$(scripts/peer.sh datasets)
cargo build --release --bin blip
blip=target/release/blip

rm -rf "$work"
"$webdataset" tests/interop/write_shards.py "$work"
cp tests/interop/pairs.blip "$work/"
"$blip" run "$work/pairs.blip"
"$webdataset" tests/interop/read_webdataset.py "$work"
HF_HUB_OFFLINE=1 "$datasets" tests/interop/read_datasets.py "$work"

if ! command -v npm >/dev/null; then
  echo "graphs: not read: npm is missing"
  exit 0
fi
graphs=$(scripts/peer.sh graphs)
mkdir "$work/graphs"
for workflow in workflows/*.blip tests/bootstrap/bootstrap.blip; do
  for format in dot mermaid; do
    "$blip" graph "$workflow" --format "$format" >"$work/graphs/$(basename "$workflow" .blip).$format"
  done
done
node tests/interop/read_graphs.mjs "$work/graphs" "$graphs"
