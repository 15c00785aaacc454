"""Forward passes of transformers' BLIP: features, similarities, matching and language-model logits, losses.

Writes OUT/forward/<shape>/{captioner,matcher,answerer}/ by save_pretrained, and forward.safetensors in each, with inputs and
outputs.
"""

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

import models


def write(model, folder, tensors):
    model.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "forward.safetensors")


@torch.no_grad()
def captioner(shape, seed, rows, folder):
    model = models.captioner(shape, seed)
    text, vision = model.config.text_config, model.config.vision_config
    tokens = models.Tokens(text.vocab_size)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = models.images(rows, vision.image_size, generator)
    larger = models.images(1, vision.image_size * 2, generator)
    ids, mask = models.texts(tokens, rows, 12, generator)
    ids[:, 0] = tokens.dec  # transformers leaves [CLS] here when it computes a loss, BLIP does not
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :3] = -100  # as if a prompt of three tokens were given
    out = model(pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=labels)
    smooth = cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=0.1)
    model.text_decoder.label_smoothing = 0.1
    theirs = model(pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=labels).loss
    assert abs(smooth - theirs) < 1e-6
    write(model, folder, {
        "pixels": pixels, "ids": ids, "mask": mask, "labels": labels,
        "image_states": out.last_hidden_state, "logits": out.logits, "loss": out.loss, "loss_smooth": theirs,
        "larger": larger,
        "larger_states": model.vision_model(larger, interpolate_pos_encoding=True).last_hidden_state,
    })


@torch.no_grad()
def matcher(shape, seed, rows, folder):
    model = models.matcher(shape, seed)
    text, vision = model.config.text_config, model.config.vision_config
    tokens = models.Tokens(text.vocab_size)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = models.images(rows, vision.image_size, generator)
    ids, mask = models.texts(tokens, rows, 12, generator)
    enc = ids.clone()
    enc[:, 0] = tokens.enc
    ask = lambda ids, **more: model(input_ids=ids, pixel_values=pixels, attention_mask=mask, **more)
    plain = ask(ids, use_itm_head=False)
    states = model.vision_model(pixels).last_hidden_state
    write(model, folder, {
        "pixels": pixels, "ids": ids, "mask": mask,
        "image_states": states,
        "image_features": normalize(model.vision_proj(states[:, 0]), dim=-1),
        "text_features": normalize(model.text_proj(plain.question_embeds[:, 0]), dim=-1),
        "itc": plain.itm_score, "itm_cls": ask(ids).itm_score, "itm_enc": ask(enc).itm_score,
    })


@torch.no_grad()
def answerer(shape, seed, rows, folder):
    model = models.answerer(shape, seed)
    text, vision = model.config.text_config, model.config.vision_config
    tokens = models.Tokens(text.vocab_size)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = models.images(rows, vision.image_size, generator)
    ids, mask = models.texts(tokens, rows, 12, generator)
    answers, answer_mask = models.texts(tokens, rows, 6, generator)
    answers[:, 0] = tokens.dec
    states = model.vision_model(pixels).last_hidden_state
    question = model.text_encoder(ids, attention_mask=mask, encoder_hidden_states=states).last_hidden_state
    logits = model.text_decoder(
        answers, attention_mask=answer_mask, encoder_hidden_states=question, encoder_attention_mask=mask
    ).logits
    write(model, folder, {
        "pixels": pixels, "ids": ids, "mask": mask, "answers": answers, "answer_mask": answer_mask,
        "question_states": question, "logits": logits,
    })


def make(out, seed, live):
    shapes = {**models.SMALL, **models.BASE, **models.LARGE} if live else models.SMALL
    for number, (name, shape) in enumerate(shapes.items()):
        rows = 2 if name in ("base", "large") else 3
        for kind in (captioner, matcher, answerer):
            if kind is answerer and name != "narrow_text":
                continue
            kind(shape, seed + 100 * number, rows, out / "forward" / name / kind.__name__)
