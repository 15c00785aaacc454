"""Captions of transformers' `generate`: greedy, beam search with limits and penalties, nucleus sampling step by step.

The models are those that forward.py saved as OUT/forward/<shape>/captioner. Writes OUT/decoding/<shape>/:
images.safetensors, and cases.json: for each setting the token ids of every image, and those in float64 where they differ.
For sampling, nucleus.safetensors has the sampled sequences, and for every step the logits before and after transformers'
processors (repetition penalty, minimal length, temperature, top-k, top-p): -inf for tokens that are not candidates.
"""

import copy
import json

import torch
from safetensors.torch import save_file

import models

BEAM = dict(num_beams=3, max_length=20, min_length=5)
SETTINGS = {
    "greedy": dict(num_beams=1, max_length=20, min_length=5),
    "greedy_long": dict(num_beams=1, max_length=24, min_length=12),
    "greedy_penalty": dict(num_beams=1, max_length=20, min_length=5, repetition_penalty=1.5),
    "beam": BEAM,
    "beam_penalty": dict(BEAM, repetition_penalty=1.1),
    "beam_short": dict(BEAM, length_penalty=0.3),
    "beam_long": dict(BEAM, length_penalty=2.0),
    "beam_one_word": dict(num_beams=3, max_length=6, min_length=5),
    "beam_five": dict(num_beams=5, max_length=16, min_length=8),
}
SAMPLE = dict(do_sample=True, num_beams=1, max_length=16)
NUCLEUS = {
    "nucleus": dict(SAMPLE, top_p=0.9, top_k=50, temperature=1.0, repetition_penalty=1.1, min_length=6),
    "nucleus_hot": dict(SAMPLE, top_p=0.95, top_k=12, temperature=1.7, repetition_penalty=1.4, min_length=9),
    "nucleus_wide": dict(SAMPLE, top_p=1.0, top_k=50, temperature=3.0, repetition_penalty=1.0, min_length=0),
}


@torch.no_grad()
def write(model, seed, rows, drawn_rows, prompt, folder):
    vision = model.config.vision_config
    generator = torch.Generator().manual_seed(seed + 2)
    pixels = models.images(rows, vision.image_size, generator)
    start = torch.tensor([prompt]).repeat(rows, 1)
    cases = []
    precise = copy.deepcopy(model).double() if vision.hidden_size < 100 else None  # slow with the base model
    for name, setting in SETTINGS.items():
        for prompted in (True, False):
            generate = lambda model, pixels: model.generate(
                pixels, input_ids=start.clone() if prompted else None, **setting
            ).tolist()
            ids = generate(model, pixels)
            case = dict(name=name, setting=setting, prompt=prompt if prompted else [], ids=ids)
            if precise:
                others = enumerate(generate(precise, pixels.double()))
                case["in_64_bits"] = {row: other for row, other in others if other != ids[row]}
            cases.append(case)
    steps = {}
    for name, setting in NUCLEUS.items():
        torch.manual_seed(seed)
        drawn = model.generate(
            pixels[:drawn_rows], input_ids=start[:drawn_rows].clone(), return_dict_in_generate=True, output_scores=True,
            output_logits=True, **setting,
        )
        steps[f"{name}.ids"], steps[f"{name}.scores"] = drawn.sequences, torch.stack(drawn.scores, 1)
        steps[f"{name}.logits"] = torch.stack(drawn.logits, 1)
    folder.mkdir()
    save_file({"pixels": pixels}, folder / "images.safetensors")
    save_file(steps, folder / "nucleus.safetensors")
    text = json.dumps(dict(cases=cases, nucleus=NUCLEUS, prompt=prompt), separators=(",", ":"))
    (folder / "cases.json").write_text(text.replace('{"name"', '\n{"name"') + "\n")


def make(out, seed, live):
    shapes = {**models.SMALL, **models.BASE} if live else models.SMALL
    for number, (name, shape) in enumerate(shapes.items()):
        model = models.captioner(shape, seed + 100 * number)
        tokens = models.Tokens(model.config.text_config.vocab_size)
        rows = (8 if name == "base" else 200) if live else 6
        prompt = [tokens.cls, tokens.first + 3, tokens.first + 9, tokens.first + 1, tokens.sep]
        write(model, seed + number, rows, rows if live else 2, prompt, out / "decoding" / name)
