"""What the benchmark of the data asks of Pillow and webdataset.

Says which of them are there in a line, then reads works from standard input, such as `decode FOLDER`, does each once
and answers with the seconds it took.
"""

import importlib.util
import io
import sys
import time
from functools import cache
from pathlib import Path

SIDE = 224


@cache
def files(folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


def opened(encoded: bytes):
    from PIL import Image

    return Image.open(io.BytesIO(encoded)).convert("RGB")


@cache
def pictures(folder: str) -> list:
    return [opened(encoded) for encoded in files(folder)]


def decode(folder: str):
    encoded = files(folder)
    started = time.perf_counter()
    for image in encoded:
        opened(image)
    return time.perf_counter() - started


def resize(folder: str):
    from PIL import Image

    images = pictures(folder)
    started = time.perf_counter()
    for image in images:
        image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return time.perf_counter() - started


def read(shard: str):
    import webdataset

    started = time.perf_counter()
    samples = sum(1 for sample in webdataset.WebDataset(shard, shardshuffle=False) if sample["jpg"])
    assert samples, "the shard has samples"
    return time.perf_counter() - started


def main() -> None:
    modules = {"pillow": "PIL", "webdataset": "webdataset"}
    print(*(name for name, module in modules.items() if importlib.util.find_spec(module)), flush=True)
    for line in sys.stdin:
        work, path = line.strip().split(" ", 1)
        print({"decode": decode, "resize": resize, "read": read}[work](path), flush=True)


if __name__ == "__main__":
    main()
