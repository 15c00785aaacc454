"""Generates the expected values of the parity tests:

    python tests/parity/make.py OUT --seed N [--live] [--only forward,pixels,...]

The stored fixtures are `make.py tests/parity/fixtures --seed 1`; `make parity` makes larger ones from a new seed.
"""

import argparse
import pathlib
import shutil

PARTS = ("forward", "decoding", "training", "tokenizer", "pixels", "files")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--live", action="store_true", help="also the base and large models, and more cases")
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    for part in options.only.split(","):
        if part not in PARTS:
            parser.error(f"unknown part '{part}'; choose from {', '.join(PARTS)}")
        shutil.rmtree(options.out / part, ignore_errors=True)
        (options.out / part).mkdir(parents=True)
        __import__(part).make(options.out, options.seed, options.live)
        print(f"made {options.out / part} from seed {options.seed}", flush=True)


main()
