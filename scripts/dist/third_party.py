"""Prints what the program is made of besides blip: names, versions, licences, and the texts that came with the sources.

Usage: third_party.py, in the root of a checkout whose dependencies cargo has fetched
"""

import json
import pathlib
import re
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"
TEXT_NAME = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)([-_.].*)?$", re.IGNORECASE)
# Sources of C libraries lie in a folder of the package that binds them.
DEPTH_MAX = 2
HEADLINE = """\
What this release of blip is made of besides blip itself, which is Apache-2.0 (see LICENSE).

Where a package leaves the choice between licences, all of them are given. The Rust standard library, which is part of the
program too, is MIT OR Apache-2.0 and Copyright (c) The Rust Project Contributors. libtorch is no part of this release: it
comes with its own licences when it is fetched; code in its headers is part of the program (PyTorch below).
"""


def main() -> None:
    packages = shipped(metadata())
    print(HEADLINE)
    for package in packages:
        source = package["repository"] or f"crate {package['name']}"
        print(f"{package['name']} {package['version']}: {package['license']}, {source}")
    texts = {}
    without = []
    for package in packages:
        found = texts_of(package)
        if not found:
            without.append(f"{package['name']} {package['version']}")
        for text in found:
            texts.setdefault(text, []).append(f"{package['name']} {package['version']}")
    pytorch = pathlib.Path(__file__).with_name("LICENSE-pytorch").read_text()
    texts.setdefault(pytorch.strip(), []).append("PyTorch")
    if without:
        print("\nThese packages name their licence and hold no text of it: " + ", ".join(without) + ".")
    for text, owners in sorted(texts.items(), key=lambda entry: entry[1]):
        print("\n" + "=" * 100)
        print(", ".join(sorted(set(owners))) + "\n")
        print(text)


def metadata() -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def shipped(graph: dict) -> list[dict]:
    """The packages from outside that are compiled into the program, by name."""
    by_id = {package["id"]: package for package in graph["packages"]}
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    reached, waiting = set(), [graph["resolve"]["root"]]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for dependency in nodes[name]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    outside = [by_id[name] for name in reached if by_id[name]["source"]]
    unlicensed = [package["name"] for package in outside if not package["license"]]
    if unlicensed:
        sys.exit("third_party: no licence is named by " + ", ".join(unlicensed))
    return sorted(outside, key=lambda package: (package["name"], package["version"]))


def texts_of(package: dict) -> list[str]:
    root = pathlib.Path(package["manifest_path"]).parent
    found = [path for depth in range(DEPTH_MAX) for path in root.glob("*/" * depth + "*")]
    named = root / package["license_file"] if package["license_file"] else None
    paths = [path for path in sorted(found) if path == named or path.is_file() and TEXT_NAME.match(path.name)]
    texts = [path.read_text(errors="replace") for path in paths]
    return ["\n".join(line.rstrip() for line in text.strip().splitlines()) for text in texts]


if __name__ == "__main__":
    main()
