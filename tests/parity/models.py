"""Randomly initialised BLIP models of transformers, with sizes that reveal swapped axes.

Every tensor is drawn from the given seed, including biases and norms, with a variance that gives peaked logits: with the
usual initialisation, swapped tensors would hardly change the output.
"""

import math

import torch
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipForQuestionAnswering
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

PAD, UNK, CLS, SEP, MASK = 0, 1, 2, 3, 4

# name: vision (width, depth, heads, mlp, image, patch), text (width, depth, heads, mlp, vocabulary, positions), projection
SMALL = {
    "narrow_text": ((48, 2, 4, 96, 32, 8), (32, 2, 2, 64, 100, 40), 16),
    "wide_text": ((32, 3, 2, 80, 32, 4), (64, 2, 8, 96, 64, 32), 24),
    "many_words": ((32, 1, 4, 64, 48, 16), (40, 1, 5, 72, 200, 24), 16),
}
BASE = {"base": ((768, 12, 12, 3072, 224, 16), (768, 12, 12, 3072, 30524, 512), 256)}
LARGE = {"large": ((1024, 24, 16, 4096, 224, 16), (768, 12, 12, 3072, 30524, 512), 256)}


class Tokens:
    """Ids of special tokens in a vocabulary of this size: BERT's in the real one, the first five in a small one."""

    def __init__(self, vocabulary):
        real = vocabulary == 30524
        self.cls, self.sep = (101, 102) if real else (CLS, SEP)
        self.first = 1000 if real else 5
        self.dec, self.enc = vocabulary - 2, vocabulary - 1


def config(shape):
    """BLIP's configuration, with every field that matters: the defaults of transformers are not BLIP's."""
    (vw, vd, vh, vm, image, patch), (tw, td, th, tm, vocabulary, positions), projection = shape
    tokens = Tokens(vocabulary)
    text = dict(
        vocab_size=vocabulary, hidden_size=tw, intermediate_size=tm, num_hidden_layers=td, num_attention_heads=th,
        max_position_embeddings=positions, hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, encoder_hidden_size=vw, is_decoder=True, pad_token_id=PAD,
        bos_token_id=tokens.dec, sep_token_id=tokens.sep, eos_token_id=tokens.sep, projection_dim=tw,
    )
    vision = dict(
        hidden_size=vw, intermediate_size=vm, num_hidden_layers=vd, num_attention_heads=vh, image_size=image,
        patch_size=patch, hidden_act="gelu", layer_norm_eps=1e-6, attention_dropout=0.0,
    )
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=projection)


@torch.no_grad()
def widen(model, seed):
    """Draws every parameter, in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    parameters = sorted(model.named_parameters())
    layers = 1 + max(int(name.split(".layer.")[1].split(".")[0]) for name, _ in parameters if ".layer." in name)  # of texts
    for name, parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        elif parameter.dim() <= 1:  # a norm's weight, the temperature
            parameter.copy_(1 + 0.1 * noise)
        elif "word_embeddings" in name:
            parameter.copy_(2.5 / math.sqrt(parameter.shape[1]) * noise)
        elif "embedding" in name and "patch" not in name:
            parameter.copy_(0.3 * noise)
        else:
            # More variance on the text side, or the residual stream of tied embeddings makes every caption one word repeated.
            # But not in queries and keys: attention would select a single token, and rounding would decide which.
            scale = 2.5 if "text" in name and "query" not in name and "key" not in name else 1.4
            # With many layers, such branches would dominate the input word: again one word repeated, all orders of which have
            # the same score, so that rounding decides which one a beam search prefers.
            if layers > 3 and "text" in name and "output.dense" in name:
                scale = (0.6 if "crossattention" in name else 1.2) / layers
            parameter.copy_(scale / math.sqrt(parameter[0].numel()) * noise)
    return model.eval()


def captioner(shape, seed):
    """A captioner whose captions end at different lengths: the probability of [SEP] is raised."""
    model = widen(BlipForConditionalGeneration(config(shape)), seed)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[model.config.text_config.sep_token_id] += 3.0
    return model


def matcher(shape, seed):
    return widen(BlipForImageTextRetrieval(config(shape)), seed)


def answerer(shape, seed):
    """Question answering. Its decoder attends to text, but transformers gives it the vision width, so both are the same."""
    vision, text, projection = shape
    return widen(BlipForQuestionAnswering(config(((text[0], *vision[1:2], text[2], *vision[3:]), text, projection))), seed)


def texts(tokens, rows, length, generator):
    """`rows` texts of different lengths as (ids, mask): [CLS] first, [SEP] last, then [PAD]."""
    ids = torch.full((rows, length), PAD)
    for row in range(rows):
        words = int(torch.randint(1, length - 1, (1,), generator=generator)) if row else length - 2
        ids[row, 0] = tokens.cls
        ids[row, 1 : words + 1] = torch.randint(tokens.first, tokens.dec, (words,), generator=generator)
        ids[row, words + 1] = tokens.sep
    return ids, (ids != PAD).long()


def images(rows, size, generator):
    """Noise on smooth gradients, so that the patches of an image are correlated."""
    ramp = torch.linspace(-1, 1, size)
    slope = torch.randn(rows, 3, 2, 1, 1, generator=generator)
    smooth = slope[:, :, 0] * ramp[:, None] + slope[:, :, 1] * ramp[None, :]
    return (smooth + 0.7 * torch.randn(rows, 3, size, size, generator=generator)).contiguous()
