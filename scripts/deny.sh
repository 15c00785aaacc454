#!/usr/bin/env bash
# Checks what comes into the program against deny.toml: licences, sources, bans; and known vulnerabilities where the database
# of RustSec can be reached.
#
#   scripts/deny.sh                  installs cargo-deny into target/tools first, where it is missing
#   scripts/deny.sh --if-installed   does nothing but say so where cargo-deny is missing
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2

if [ "${1:-}" = --if-installed ]; then
  deny=$(scripts/cargo-tool.sh --installed cargo-deny "$version") || {
    echo "deny: not checked: cargo-deny $version is not in target/tools; make deny installs it and checks" >&2
    exit 0
  }
else
  deny=$(scripts/cargo-tool.sh cargo-deny "$version")
fi

"$deny" --locked check --hide-inclusion-graph licenses bans sources
if [ "${1:-}" = --if-installed ]; then exit 0; fi
if "$deny" --locked fetch db; then
  "$deny" --locked --offline check advisories
else
  echo "deny: advisories are not checked: their database cannot be fetched (see the message above)" >&2
fi
