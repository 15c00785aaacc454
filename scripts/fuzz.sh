#!/usr/bin/env bash
# Fuzzes the language for a number of seconds (180): `grammar/fuzz`. What it finds lies in target/fuzz/artifacts.
#
# The sanitizers need a flag that only nightly compilers take, unless RUSTC_BOOTSTRAP is set: with it the stable one does too.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-180}

fuzz=$(scripts/cargo-tool.sh cargo-fuzz 0.13.2)
mkdir -p target/fuzz/corpus target/fuzz/artifacts
# What people wrote is where the fuzzer starts; what it finds worth keeping goes into the first folder.
RUSTC_BOOTSTRAP=1 "$fuzz" run --fuzz-dir grammar/fuzz --target-dir target/fuzz/build invariants \
  target/fuzz/corpus grammar/tests/cases workflows -- \
  -max_total_time="$seconds" -max_len=20000 -timeout=10 -artifact_prefix=target/fuzz/artifacts/ -print_final_stats=1
