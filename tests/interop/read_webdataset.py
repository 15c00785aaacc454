"""Reads exported shards with the webdataset library, and compares them with the exported JSON.

Usage: read_webdataset.py FOLDER, where FOLDER holds what pairs.blip exported.
"""

import io
import json
import sys
from pathlib import Path

import webdataset
from PIL import Image


def main(folder: Path) -> None:
    rows = json.loads((folder / "pairs.json").read_text())
    expected = sorted((row["image"], row["caption"]) for row in rows)
    shards = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    assert shards and expected, "nothing was exported"

    found = []
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        row = json.loads(sample["json"])
        assert sample["txt"].decode() == row["caption"]
        Image.open(io.BytesIO(sample["jpg"])).convert("RGB").load()
        found.append((row["image"], row["caption"]))
    assert sorted(found) == expected, f"webdataset: {len(found)} samples for {len(expected)}"
    decoded = next(iter(webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg", "txt", "json")))
    assert decoded[0].mode == "RGB" and isinstance(decoded[1], str) and isinstance(decoded[2], dict)
    print(f"webdataset: {len(found)} samples, captions and images equal")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
