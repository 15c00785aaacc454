#!/usr/bin/env bash
# Prints the path of a program that crates.io has, in one version and with the dependencies of its own lock file. Installs it
# into target/tools first, where it is missing.
#
#   scripts/cargo-tool.sh cargo-deny 0.20.2
#   scripts/cargo-tool.sh --installed cargo-deny 0.20.2     installs nothing: fails where it is missing
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes
if [ "$1" = --installed ]; then
  install=no
  shift
fi
name=$1 version=$2
home=$PWD/target/tools/$name-$version

if [ ! -x "$home/bin/$name" ]; then
  if [ "$install" = no ]; then exit 1; fi
  echo "tools: compiling $name $version into target/tools, once: a few minutes" >&2
  cargo install --quiet --locked --root "$home" "$name@$version" >&2
fi
echo "$home/bin/$name"
