#!/usr/bin/env bash
# Prints the Python of a peer's environment: what blip is compared and measured with. Makes the environment first, in
# target/peers/NAME, where it is missing or its pins have changed.
#
#   scripts/peer.sh NAME         NAME as in scripts/peers/: NAME.txt for pip, NAME/package-lock.json for npm
#   scripts/peer.sh --list       the names there are
#
# Everything fetched is pinned by hash. An npm peer has no Python: its folder is printed. NAME.sh finishes an environment.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "peer: $1" >&2
  echo "  help: $2" >&2
  exit 1
}

list() {
  local file
  for file in scripts/peers/*.txt scripts/peers/*/package-lock.json; do
    file=${file#scripts/peers/}
    file=${file%/package-lock.json}
    if [ "$file" != build.txt ]; then echo "${file%.txt}"; fi
  done
}

builds_from_source() {
  grep -q '^--no-binary' "$pins"
}

python_peer() {
  command -v python3 >/dev/null || fail "python3 is missing" "install it, 3.11 or newer (Debian: apt-get install python3-venv)"
  python3 -m venv "$folder" || fail "python3 -m venv failed" "install it (Debian: apt-get install python3-venv)"
  local options=(--quiet --disable-pip-version-check --no-input --no-deps --require-hashes)
  if builds_from_source; then
    install "${options[@]}" -r scripts/peers/build.txt
    options+=(--no-build-isolation)
  fi
  install "${options[@]}" -r "$pins"
}

install() {
  "$folder/bin/python" -m pip install "$@" >&2 ||
    fail "pip could not install $pins" "see pip's message above: this needs PyPI, or a mirror set in pip.conf"
}

npm_peer() {
  command -v npm >/dev/null || fail "npm is missing" "install Node.js, 20 or newer, with npm"
  mkdir -p "$folder"
  cp "scripts/peers/$name/package.json" "scripts/peers/$name/package-lock.json" "$folder/"
  # Packages run nothing of their own when they are installed.
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
    fail "npm could not install $pins" "see npm's message above: this needs the npm registry, or a mirror set in .npmrc"
}

name=${1:-}
if [ "$name" = --list ]; then
  list
  exit 0
fi
list | grep -qx -- "$name" || fail "no peer is called '$name'" "choose one of: $(list | tr '\n' ' ')"

folder=$PWD/target/peers/$name
if [ -e "scripts/peers/$name/package-lock.json" ]; then
  make=npm_peer pins=scripts/peers/$name/package-lock.json answer=$folder
else
  make=python_peer pins=scripts/peers/$name.txt answer=$folder/bin/python
fi
made_of=("$pins")
if builds_from_source; then made_of+=(scripts/peers/build.txt); fi
if [ -e "scripts/peers/$name.sh" ]; then made_of+=("scripts/peers/$name.sh"); fi

# Two that want the same environment wait for each other.
mkdir -p target/peers
exec 9>"target/peers/$name.lock"
flock 9
# Where what it is made of differs from what is kept beside it, an environment is old.
if ! cat "${made_of[@]}" | cmp -s - "$folder/made-of"; then
  echo "peer: making target/peers/$name, once" >&2
  rm -rf "$folder"
  "$make"
  if [ -e "scripts/peers/$name.sh" ]; then "scripts/peers/$name.sh" "$folder" >&2; fi
  cat "${made_of[@]}" >"$folder/made-of"
fi
echo "$answer"
