"""Reads exported shards, JSON and vocabularies with Hugging Face datasets, and compares them with each other.

Usage: read_datasets.py FOLDER, where FOLDER holds what pairs.blip exported.
"""

import json
import sys
from pathlib import Path

import datasets


def main(folder: Path) -> None:
    rows = json.loads((folder / "pairs.json").read_text())
    expected = sorted((row["image"], row["caption"]) for row in rows)
    shards = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    assert shards and expected, "nothing was exported"
    cache = str(folder / "hf")

    loaded = datasets.load_dataset("webdataset", data_files=shards, split="train", cache_dir=cache)
    found = sorted((row["json"]["image"], row["txt"]) for row in loaded)
    assert found == expected, f"datasets: {len(found)} samples for {len(expected)}"
    assert all(min(row["jpg"].size) > 0 for row in loaded)
    print(f"datasets: {len(found)} samples, captions and images equal")

    # The exported JSON as a captions list, and the vocabulary line by line.
    table = datasets.load_dataset("json", data_files=str(folder / "pairs.json"), split="train", cache_dir=cache)
    assert len(table) == len(expected)
    vocabulary = (folder / "vocab.txt").read_text().splitlines()
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and len(set(vocabulary)) == len(vocabulary)
    print(f"json: {len(table)} rows; vocabulary: {len(vocabulary)} tokens")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
