"""BLIP's three training steps, written from the paper and the official code on transformers' modules.

transformers has no contrastive or matching loss, no momentum encoders and no queue; this is the reference for them. Five
AdamW steps of pretraining (contrastive + matching + language model), of finetuning the filter (contrastive with image ids
+ matching) and of finetuning the captioner (language model after a prompt). Dropout is off. `luck` are the random numbers
in [0, 1) by which hard negatives are drawn: first an image for each text, then a text for each image.

Writes OUT/training/{pretrain,filter,captioner}.safetensors:
  start.NAME, end.NAME, moment1.NAME, moment2.NAME                                  parameters by name, shared ones once
  grad.N.NAME                                                                      gradients of step N
  end_momentum.NAME, start_queue.{image,text,ids}, end_queue.{image,text,ids}       the momentum encoders start as copies
  step.N.{pixels,ids,mask,alpha,image_ids,luck}                                     the inputs of step N
  step.N.{itc,itm,lm}                                                               the losses of step N
"""

import copy

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, normalize, softmax
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel, BlipTextModel

import models

STEPS, BATCH, QUEUE, LENGTH, PROMPT = 5, 4, 12, 10, 4
MOMENTUM, SMOOTHING = 0.995, 0.1
ADAMW = dict(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
SHAPE = ((24, 2, 3, 40, 24, 8), (16, 2, 2, 32, 48, 16), 12)


class Med(nn.Module):
    """The pretraining model: text encoder and decoder share all but self-attention. `parts` are the parts to build."""

    def __init__(self, shape, parts):
        super().__init__()
        config = models.config(shape)
        self.tokens = models.Tokens(config.text_config.vocab_size)
        self.vision_model = BlipVisionModel(config.vision_config)
        if "encoder" in parts:
            self.text_encoder = BlipTextModel(config.text_config, add_pooling_layer=False)
            self.vision_proj = nn.Linear(config.vision_config.hidden_size, shape[2])
            self.text_proj = nn.Linear(config.text_config.hidden_size, shape[2])
            self.itm_head = nn.Linear(config.text_config.hidden_size, 2)
            self.temp = nn.Parameter(torch.tensor(0.07))
        if "decoder" in parts:
            self.text_decoder = BlipTextLMHeadModel(config.text_config)
            head = self.text_decoder.cls.predictions
            if "encoder" in parts:
                self.text_decoder.bert.embeddings = self.text_encoder.embeddings
                for own, shared in zip(self.text_decoder.bert.encoder.layer, self.text_encoder.encoder.layer):
                    own.crossattention, own.intermediate, own.output = (
                        shared.crossattention, shared.intermediate, shared.output,
                    )
            head.decoder.weight = self.text_decoder.bert.embeddings.word_embeddings.weight
            head.decoder.bias = head.bias

    def image(self, pixels):
        states = self.vision_model(pixels).last_hidden_state
        feature = normalize(self.vision_proj(states[:, 0]), dim=-1) if hasattr(self, "vision_proj") else None
        return states, feature

    def text(self, ids, mask):
        states = self.text_encoder(ids, attention_mask=mask).last_hidden_state
        return normalize(self.text_proj(states[:, 0]), dim=-1)

    def matches(self, ids, mask, image_states):
        ids = ids.clone()
        ids[:, 0] = self.tokens.enc
        states = self.text_encoder(ids, attention_mask=mask, encoder_hidden_states=image_states).last_hidden_state
        return self.itm_head(states[:, 0])

    def language(self, ids, mask, image_states, prompt):
        ids = ids.clone()
        ids[:, 0] = self.tokens.dec
        labels = ids.masked_fill(ids == models.PAD, -100)
        labels[:, :prompt] = -100
        logits = self.text_decoder(ids, attention_mask=mask, encoder_hidden_states=image_states).logits
        return cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, label_smoothing=SMOOTHING
        )


class Momentum:
    """The momentum encoders, and the queue of their features of earlier batches."""

    NAMES = ("vision_model", "text_encoder", "vision_proj", "text_proj")

    def __init__(self, med, generator):
        self.med = copy.deepcopy(med).requires_grad_(False)
        size = med.vision_proj.out_features
        self.image = normalize(torch.randn(size, QUEUE, generator=generator), dim=0)
        self.text = normalize(torch.randn(size, QUEUE, generator=generator), dim=0)
        self.ids = torch.full((QUEUE,), -100)
        self.next = 0

    @torch.no_grad()
    def update(self, med):
        for name in self.NAMES:
            for average, current in zip(getattr(self.med, name).parameters(), getattr(med, name).parameters()):
                average.copy_(average * MOMENTUM + current * (1 - MOMENTUM))

    def enqueue(self, image, text, ids):
        at = slice(self.next, self.next + len(image))  # QUEUE is a multiple of BATCH here
        self.image[:, at], self.text[:, at], self.ids[at] = image.T, text.T, ids
        self.next = (self.next + len(image)) % QUEUE


def contrast_and_match(med, momentum, batch, by_id):
    """The contrastive and the matching loss, and the image states for the language model."""
    with torch.no_grad():
        med.temp.clamp_(0.001, 0.5)
    pixels, ids, mask, alpha = batch["pixels"], batch["ids"], batch["mask"], batch["alpha"]
    states, image = med.image(pixels)
    text = med.text(ids, mask)
    with torch.no_grad():
        momentum.update(med)
        image_m = momentum.med.image(pixels)[1]
        text_m = momentum.med.text(ids, mask)
        all_images = torch.cat([image_m.T, momentum.image], 1)
        all_texts = torch.cat([text_m.T, momentum.text], 1)
        if by_id:
            known = torch.cat([batch["image_ids"], momentum.ids])
            same = (batch["image_ids"][:, None] == known[None]).float()
            hard = same / same.sum(1, keepdim=True)
        else:
            hard = torch.eye(BATCH, BATCH + QUEUE)
        target_i2t = alpha * softmax(image_m @ all_texts / med.temp, 1) + (1 - alpha) * hard
        target_t2i = alpha * softmax(text_m @ all_images / med.temp, 1) + (1 - alpha) * hard
    sim_i2t, sim_t2i = image @ all_texts / med.temp, text @ all_images / med.temp
    i2t = -(target_i2t * log_softmax(sim_i2t, 1)).sum(1).mean()
    t2i = -(target_t2i * log_softmax(sim_t2i, 1)).sum(1).mean()
    momentum.enqueue(image_m, text_m, batch["image_ids"])

    with torch.no_grad():
        if by_id:  # drawn by the model's own features, never of the same image
            weights_i2t, weights_t2i = softmax(image @ text.T / med.temp, 1), softmax(text @ image.T / med.temp, 1)
            forbidden = batch["image_ids"][:, None] == batch["image_ids"][None]
        else:
            weights_i2t, weights_t2i = softmax(sim_i2t[:, :BATCH], 1) + 1e-4, softmax(sim_t2i[:, :BATCH], 1) + 1e-4
            forbidden = torch.eye(BATCH).bool()
        other_image = drawn(weights_t2i.masked_fill(forbidden, 0), batch["luck"][0])
        other_text = drawn(weights_i2t.masked_fill(forbidden, 0), batch["luck"][1])
    logits = torch.cat([
        med.matches(ids, mask, states),
        med.matches(
            torch.cat([ids, ids[other_text]]), torch.cat([mask, mask[other_text]]),
            torch.cat([states[other_image], states]),
        ),
    ])
    labels = torch.cat([torch.ones(BATCH), torch.zeros(2 * BATCH)]).long()
    return (i2t + t2i) / 2, cross_entropy(logits, labels), states


def drawn(weights, luck):
    """One column of each row, with a probability proportional to its weight."""
    reach = weights.double().cumsum(1)
    return (reach <= luck[:, None] * reach[:, -1:]).sum(1)


def draw_batch(shape, step, by_id, generator):
    tokens = models.Tokens(shape[1][4])
    ids, mask = models.texts(tokens, BATCH, LENGTH, generator)
    image_ids = torch.randint(0, 6, (BATCH,), generator=generator)
    image_ids[0] = 6  # so that every image has a negative in the batch
    if not by_id:
        image_ids = torch.arange(BATCH) + step * BATCH
    return dict(
        pixels=models.images(BATCH, shape[0][4], generator), ids=ids, mask=mask,
        alpha=torch.tensor(0.4 * min(1.0, (step + 1) / STEPS)),
        image_ids=image_ids, luck=torch.rand(2, BATCH, generator=generator),
    )


def train(parts, prompt, by_id, shape, seed):
    med = Med(shape, parts)
    models.widen(med, seed)
    if hasattr(med, "temp"):
        med.temp.data.fill_(0.07)
    generator = torch.Generator().manual_seed(seed + 1)
    momentum = Momentum(med, generator) if "encoder" in parts else None
    named = dict(med.named_parameters())
    written = {f"start.{name}": value.detach().clone() for name, value in named.items()}
    if momentum:
        written |= {f"start_queue.{name}": getattr(momentum, name).clone() for name in ("image", "text", "ids")}
    optimizer = torch.optim.AdamW(named.values(), **ADAMW)
    for step in range(STEPS):
        batch = draw_batch(shape, step, by_id, generator)
        written |= {f"step.{step}.{name}": value for name, value in batch.items()}
        losses = {}
        if momentum:
            losses["itc"], losses["itm"], states = contrast_and_match(med, momentum, batch, by_id)
        else:
            states, _ = med.image(batch["pixels"])
        if "decoder" in parts:
            losses["lm"] = med.language(batch["ids"], batch["mask"], states, prompt)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        written |= {f"grad.{step}.{name}": value.grad.clone() for name, value in named.items()}
        optimizer.step()
        written |= {f"step.{step}.{name}": value.detach() for name, value in losses.items()}
    for name, value in named.items():
        state = optimizer.state[value]
        written |= {f"end.{name}": value.detach(), f"moment1.{name}": state["exp_avg"]}
        written |= {f"moment2.{name}": state["exp_avg_sq"]}
    if momentum:
        averages = {n: v for n, v in momentum.med.named_parameters() if n.split(".")[0] in Momentum.NAMES}
        written |= {f"end_momentum.{name}": value for name, value in averages.items()}
        written |= {f"end_queue.{name}": getattr(momentum, name) for name in ("image", "text", "ids")}
    return {name: value.contiguous().clone() for name, value in written.items()}


def make(out, seed, live):
    steps = {
        "pretrain": (("encoder", "decoder"), 0, False),
        "filter": (("encoder",), 0, True),
        "captioner": (("decoder",), PROMPT, False),
    }
    shapes = {"small": SHAPE, **({"narrow_text": models.SMALL["narrow_text"]} if live else {})}
    for shape_name, shape in shapes.items():
        for number, (name, (parts, prompt, by_id)) in enumerate(steps.items()):
            config = models.config(shape)
            folder = out / "training" / shape_name
            folder.mkdir(parents=True, exist_ok=True)
            config.save_pretrained(folder)
            save_file(train(parts, prompt, by_id, shape, seed + number), folder / f"{name}.safetensors")
