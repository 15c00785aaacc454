"""Loads blip's exports into transformers: no missing or unexpected keys, the same captions, the same scores.

    python tests/parity/exported.py OUT

OUT/exported/<model>/ was written by the example export_for_parity. Prints the rows of the table; exits with 1 if one is out of
bounds.
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipImageProcessor

import models  # noqa: F401 (silences transformers' logging)

BOUND = 1e-5
outside = 0


def row(quantity, ours, theirs, difference, bound):
    global outside
    inside = difference <= bound
    outside += not inside
    print(f"{' ' if inside else '!'} {quantity:<58} {ours:>14} {theirs:>14} {difference:>10.1e} {bound:>8.1e}")


def load(kind, folder, name):
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    count = sum(len(info[what]) for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    row(f"keys missing, unexpected or of the wrong shape ({name})", "0", str(count), count, 0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text, vision = model.config.text_config, model.config.vision_config
    known = len(tokenizer) + 2  # [DEC] and [ENC] are not in the tokenizer
    row(f"tokens of the tokenizer and two more ({name})", str(text.vocab_size), str(known), text.vocab_size - known, 0)
    size = BlipImageProcessor.from_pretrained(folder).size["height"]
    difference = abs(vision.image_size - size)
    row(f"pixels a side in the image processor ({name})", str(vision.image_size), str(size), difference, 0)
    assert (text.num_attention_heads, vision.layer_norm_eps) != (8, 1e-5), "BLIP's values, not transformers' defaults"
    return model.eval()


@torch.no_grad()
def check(folder):
    ours, name = load_file(folder / "ours.safetensors"), folder.name
    if "captions" in ours:
        model = load(BlipForConditionalGeneration, folder, name)
        ids = model.generate(ours["pixels"], max_length=16, min_length=5, num_beams=1, do_sample=False)
        ids = torch.nn.functional.pad(ids, (0, 16 - ids.shape[1]))
        equal, count = (ids == ours["captions"]).all(1).sum().item(), len(ids)
        row(f"captions of the exported model ({name})", f"{equal} equal", f"of {count}", count - equal, 0)
    if "itm" in ours:
        retrieval = folder / "retrieval" if "captions" in ours else folder
        model = load(BlipForImageTextRetrieval, retrieval, f"{name} retrieval" if "captions" in ours else name)
        ids = ours["ids"].clone()
        for what, first, head in (("itm", model.config.text_config.vocab_size - 1, True), ("itc", 2, False)):
            ids[:, 0] = first
            theirs = model(input_ids=ids, pixel_values=ours["pixels"], use_itm_head=head).itm_score
            scale = theirs.abs().max().item()
            apart = (ours[what] - theirs).abs().max().item()
            largest = ours[what].abs().max().item()
            row(f"{what} of the exported model ({name})", f"{largest:.6f}", f"{scale:.6f}", apart, BOUND * scale)


for folder in sorted((pathlib.Path(sys.argv[1]) / "exported").iterdir()):
    check(folder)
sys.exit(f"{outside} rows are out of bounds" if outside else 0)
