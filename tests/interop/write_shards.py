"""Writes a shard with the webdataset library for blip to read: JPEG and PNG, texts in `.txt` or in `.json`.

Usage: write_shards.py FOLDER
"""

import io
import sys
from pathlib import Path

import webdataset
from PIL import Image


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(folder / "found.tar")) as writer:
        for number in range(40):
            image = Image.new("RGB", (20 + number, 16), (number * 6, 40, 90))
            text = f"a plain picture, {number} · zażółć"
            sample = {"__key__": f"found-{number:04}", "txt" if number % 2 else "json": text if number % 2 else {"caption": text}}
            suffix, encoding = [("jpg", "JPEG"), ("png", "PNG")][number % 4 == 3]
            encoded = io.BytesIO()
            image.save(encoded, encoding)
            writer.write(sample | {suffix: encoded.getvalue()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
