#!/usr/bin/env python3
"""Pins by hash what scripts fetch from PyPI: writes NAME.txt, which pip installs, from NAME.in, which people edit.

Usage: scripts/lock.py [FILE.in ...]     [default: all of scripts/peers/*.in and scripts/libtorch/*.in]

uv resolves; what it finds is cut down to the files that Linux on x86-64 installs. A package without a wheel is listed with
`--no-binary`: scripts/peer.sh builds it with the tools that scripts/peers/build.txt pins.
"""

import pathlib
import re
import subprocess
import sys
import tomllib

SCRIPTS = pathlib.Path(__file__).resolve().parent
# The oldest Python that is served; newer ones are resolved for as well.
OLDEST_PYTHON = "3.11"
# These list all they need themselves: the dependencies that they leave out are not called.
WITHOUT_DEPENDENCIES = {"transformers", "cpu", "cuda"}
# libtorch does not depend on Python, so one wheel of the many is enough: the one scripts/libtorch.sh asks for.
ONE_PYTHON = {"cpu", "cuda"}


def main(sources: list[pathlib.Path]) -> None:
    python = subprocess.run([SCRIPTS / "peer.sh", "uv"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    uv = pathlib.Path(python).with_name("uv")
    for source in sources or sorted([*SCRIPTS.glob("peers/*.in"), *SCRIPTS.glob("libtorch/*.in")]):
        target = source.with_suffix(".txt")
        target.write_text(locked(source, resolve(uv, source)))
        print(f"{target.relative_to(SCRIPTS.parent)}: {target.read_text().count('==')} packages")


def resolve(uv: pathlib.Path, source: pathlib.Path) -> list[dict]:
    options = ["--no-deps"] if source.stem in WITHOUT_DEPENDENCIES else []
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--no-header"]
    found = subprocess.run([*command, "--format", "pylock.toml", *options, source], check=True, stdout=subprocess.PIPE)
    return tomllib.loads(found.stdout.decode())["packages"]


def locked(source: pathlib.Path, packages: list[dict]) -> str:
    options = ["--only-binary :all:"]
    requirements = []
    for package in packages:
        marker = package.get("marker", "")
        if "'win32'" in marker and " or " not in marker:
            continue
        hashes = sorted(wheel["hashes"]["sha256"] for wheel in package.get("wheels", []) if fits(source.stem, wheel))
        if not hashes and "sdist" not in package:
            sys.exit(f"lock: {package['name']} has no file that Linux on x86-64 installs")
        if not hashes:
            options.append(f"--no-binary {package['name']}")
            hashes = [package["sdist"]["hashes"]["sha256"]]
        pin = f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else "")
        requirements.append(" \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in hashes)]))
    return "\n".join([f"# scripts/lock.py made this from {source.name}.", *options, *requirements, ""])


def fits(name: str, wheel: dict) -> bool:
    """Whether the wheel is for Linux on x86-64 with glibc, for an ordinary CPython that is not too old."""
    stem = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
    python, abi, platform = stem.removesuffix(".whl").split("-")[-3:]
    if platform != "any" and not ("manylinux" in platform and "x86_64" in platform) and platform != "linux_x86_64":
        return False
    if name in ONE_PYTHON and python.startswith("cp") and python != "cp" + OLDEST_PYTHON.replace(".", ""):
        return False
    if abi == "abi3" or abi == "none" and any(tag.startswith("py3") for tag in python.split(".")):
        return True
    minor = re.fullmatch(r"cp3(\d+)", python)
    return abi == python and minor is not None and int(minor[1]) >= int(OLDEST_PYTHON.split(".")[1])


if __name__ == "__main__":
    main([pathlib.Path(name).resolve() for name in sys.argv[1:]])
