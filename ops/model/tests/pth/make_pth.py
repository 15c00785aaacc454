"""Makes the .pth files in this folder: small models under the official code's names, and one that attacks its reader.

    .venv/bin/python ops/model/tests/pth/make_pth.py

One vision block of width 64 with patches of 4 pixels for images of 8, one text layer of width 64 with 20 words and 8
positions; every value is a small number of eighths, so that files compress in git. No seed: nothing is random.
"""

import collections
import os
import pathlib

import torch

HERE = pathlib.Path(__file__).parent
WIDTH, MLP, WORDS = 64, 16, 20
count = 0


def value(*shape):
    """A tensor of a single value, which differs from that of the previous tensor."""
    global count
    count += 1
    return torch.full(shape, (count % 32) / 8)


def layer(name, inner, outer):
    return {f"{name}.weight": value(outer, inner), f"{name}.bias": value(outer)}


def norm(name):
    return {f"{name}.weight": value(WIDTH), f"{name}.bias": value(WIDTH)}


def vision():
    name = "visual_encoder"
    block = f"{name}.blocks.0"
    return {
        f"{name}.cls_token": value(1, 1, WIDTH), f"{name}.pos_embed": value(1, 5, WIDTH),
        f"{name}.patch_embed.proj.weight": value(WIDTH, 3, 4, 4), f"{name}.patch_embed.proj.bias": value(WIDTH),
        **norm(f"{block}.norm1"), **layer(f"{block}.attn.qkv", WIDTH, 3 * WIDTH), **layer(f"{block}.attn.proj", WIDTH, WIDTH),
        **norm(f"{block}.norm2"), **layer(f"{block}.mlp.fc1", WIDTH, MLP), **layer(f"{block}.mlp.fc2", MLP, WIDTH),
        **norm(f"{name}.norm"),
    }


def attention(name):
    parts = {}
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        parts |= layer(f"{name}.{part}", WIDTH, WIDTH)
    return {**parts, **norm(f"{name}.output.LayerNorm")}


def bert(name):
    first = f"{name}.encoder.layer.0"
    return {
        f"{name}.embeddings.position_ids": torch.arange(8)[None],
        f"{name}.embeddings.word_embeddings.weight": value(WORDS, WIDTH),
        f"{name}.embeddings.position_embeddings.weight": value(8, WIDTH), **norm(f"{name}.embeddings.LayerNorm"),
        **attention(f"{first}.attention"), **attention(f"{first}.crossattention"),
        **layer(f"{first}.intermediate.dense", WIDTH, MLP), **layer(f"{first}.output.dense", MLP, WIDTH),
        **norm(f"{first}.output.LayerNorm"),
    }


def decoder(shared=None):
    parts = bert("text_decoder.bert")
    for name in list(parts):
        if shared and "/attention/" not in name.replace(".", "/"):
            parts[name] = shared[name.replace("text_decoder.bert", "text_encoder")]
    head = "text_decoder.cls.predictions"
    parts |= {f"{head}.bias": value(WORDS), **layer(f"{head}.transform.dense", WIDTH, WIDTH), **norm(f"{head}.transform.LayerNorm")}
    parts[f"{head}.decoder.weight"] = parts["text_decoder.bert.embeddings.word_embeddings.weight"]
    parts[f"{head}.decoder.bias"] = parts[f"{head}.bias"]
    return parts


def pretrained():
    encoder = bert("text_encoder")
    model = {**vision(), **encoder, **decoder(encoder)}
    model |= {**layer("vision_proj", WIDTH, 4), **layer("text_proj", WIDTH, 4), "temp": torch.tensor(0.0625)}
    # a view into a longer storage, transposed: 0 2 4 ... and 1 3 5 ...
    model |= {"itm_head.weight": torch.arange(-2.0, 128.0)[2:].view(64, 2).T, "itm_head.bias": value(2)}
    momentum = {"visual_encoder_m.cls_token": value(1, 1, WIDTH), "text_encoder_m.embeddings.LayerNorm.bias": value(WIDTH)}
    queue = {"image_queue": value(4, 6), "text_queue": value(4, 6), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    return collections.OrderedDict({**model, **momentum, **queue})


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/blip-owned",)


def main():
    model = pretrained()
    state = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
    save = lambda name, what: torch.save(what, HERE / name)
    save("pretrained.pth", {"model": model, "optimizer": state, "config": {"vit": "base", "queue": None}, "epoch": 3})
    broken = dict(model)
    broken["text_decoder.bert.encoder.layer.0.intermediate.dense.bias"] = value(MLP) + 1
    save("untied.pth", {"model": broken})
    save("captioner.pth", {"model": collections.OrderedDict({**vision(), **decoder()})})
    save("answerer.pth", {"model": {**vision(), **bert("text_encoder"), **decoder()}})
    save("malicious.pth", {"model": {"visual_encoder.cls_token": value(1), "extra": Attack()}})


main()
