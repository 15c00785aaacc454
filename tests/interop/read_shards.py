"""Reads exported shards with the webdataset library and Hugging Face datasets, and compares them with the exported JSON.

Usage: read_shards.py FOLDER, where FOLDER holds what pairs.blip exported.
"""

import io
import json
import sys
from pathlib import Path

import datasets
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

    loaded = datasets.load_dataset("webdataset", data_files=shards, split="train", cache_dir=str(folder / "hf"))
    found = sorted((row["json"]["image"], row["txt"]) for row in loaded)
    assert found == expected, f"datasets: {len(found)} samples for {len(expected)}"
    assert all(min(row["jpg"].size) > 0 for row in loaded)
    print(f"datasets: {len(found)} samples, captions and images equal")

    # The exported JSON as a captions list, and the vocabulary line by line.
    table = datasets.load_dataset("json", data_files=str(folder / "pairs.json"), split="train", cache_dir=str(folder / "hf"))
    assert len(table) == len(expected)
    vocabulary = (folder / "vocab.txt").read_text().splitlines()
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and len(set(vocabulary)) == len(vocabulary)
    print(f"json: {len(table)} rows; vocabulary: {len(vocabulary)} tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
