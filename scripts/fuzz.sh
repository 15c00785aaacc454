#!/usr/bin/env bash
# Fuzzes the language for a number of seconds (180): `grammar/fuzz`. What it finds lies in target/fuzz/artifacts.
#
# cargo-fuzz is installed into target/ the first time. The sanitizers need a flag that only nightly compilers take, unless
# RUSTC_BOOTSTRAP is set: with it the stable one does too.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-180}
version=0.13.2
tools=$PWD/target/fuzz/tools

if [ ! -x "$tools/bin/cargo-fuzz" ]; then
  echo "fuzz: installing cargo-fuzz $version into target/fuzz/tools, once" >&2
  cargo install --quiet --locked --root "$tools" "cargo-fuzz@$version"
fi
mkdir -p target/fuzz/corpus target/fuzz/artifacts
# What people wrote is where the fuzzer starts; what it finds worth keeping goes into the first folder.
RUSTC_BOOTSTRAP=1 "$tools/bin/cargo-fuzz" run --fuzz-dir grammar/fuzz --target-dir target/fuzz/build invariants \
  target/fuzz/corpus grammar/tests/cases workflows -- \
  -max_total_time="$seconds" -max_len=20000 -timeout=10 -artifact_prefix=target/fuzz/artifacts/ -print_final_stats=1
