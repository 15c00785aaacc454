"""Lays libtorch out of PyPI's wheels: headers and libraries, as a folder that LIBTORCH may name.

Usage: unpack.py WHEELS OUT FLAVOUR VERSION, where FLAVOUR is cpu or cuda
"""

import os
import pathlib
import re
import stat
import sys
import zipfile

NEEDED = ("libtorch_cpu.so", "libtorch.so", "libc10.so")
CPU_LIBRARIES = re.compile(r"lib/(libtorch_cpu|libtorch|libc10)\.so$|lib/libgomp[^/]*\.so[^/]*$|lib/lib(cudart|cupti)\.so\.\d+$")
BLOCK = 1 << 24


class Refused(Exception):
    """A wheel holds what no wheel should."""


def unpack(wheels: pathlib.Path, out: pathlib.Path, flavour: str, version: str) -> None:
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                refuse_outside(wheel, entry)
                target = target_of(entry.filename, flavour)
                if target is not None:
                    write(archive, entry, out / target)
    add_gomp_aliases(out / "lib")
    missing = [name for name in NEEDED if not (out / "lib" / name).exists()]
    if missing:
        raise Refused("the fetched wheels lack " + ", ".join(missing))
    (out / "build-version").write_text(version + "\n")


def refuse_outside(wheel: pathlib.Path, entry: zipfile.ZipInfo) -> None:
    """An archive decides neither where files go nor what they link to."""
    name = entry.filename
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise Refused(f"{wheel.name} holds '{name}', which leads out of its folder")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise Refused(f"{wheel.name} holds '{name}', which is a link")


def target_of(name: str, flavour: str) -> str | None:
    """Where a file goes in the folder of libtorch; None for what is Python's alone."""
    base = name.rsplit("/", 1)[-1]
    if name.startswith("torch/include/") and base:
        return name.removeprefix("torch/")
    if ".so" not in base or "/lib/" not in name or "python" in base:
        return None
    if flavour == "cpu" and not CPU_LIBRARIES.search(name):
        return None
    return f"lib/{base}"


def write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, open(target, "wb") as sink:
        while block := source.read(BLOCK):
            sink.write(block)


def add_gomp_aliases(lib: pathlib.Path) -> None:
    """The wheel's OpenMP has a name of its own, others look for the usual ones."""
    gomp = [name for name in sorted(os.listdir(lib)) if name.startswith("libgomp")] if lib.is_dir() else []
    for alias in ("libgomp.so.1", "libgomp.so"):
        if gomp and alias not in gomp:
            (lib / alias).symlink_to(gomp[0])


if __name__ == "__main__":
    folder, destination, kind, release = sys.argv[1:]
    try:
        unpack(pathlib.Path(folder), pathlib.Path(destination), kind, release)
    except (Refused, zipfile.BadZipFile) as error:
        sys.exit(f"libtorch: {error}")
