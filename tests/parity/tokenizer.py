"""Token ids of BertTokenizer for texts in every script, and BLIP's cleaning of captions.

Writes OUT/tokenizer/vocab.txt and texts.json: [{"text", "ids"}] with [CLS] and [SEP], not truncated; cleaning.json:
[{"text", "clean"}], by the official `pre_caption` with at most 30 words.
"""

import json
import random
import re
import unicodedata

from transformers import BertTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Unicode blocks that a tokenizer treats differently.
BLOCKS = {
    "ascii": (0x20, 0x7E), "latin1": (0xA0, 0xFF), "latin": (0x100, 0x24F), "ipa": (0x250, 0x2FF),
    "combining": (0x300, 0x36F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF), "hebrew": (0x590, 0x5F4),
    "arabic": (0x600, 0x6FF), "devanagari": (0x900, 0x97F), "thai": (0xE00, 0xE7F), "hangul_jamo": (0x1100, 0x11FF),
    "vietnamese": (0x1E00, 0x1EFF), "punctuation": (0x2000, 0x206F), "currency": (0x20A0, 0x20BF),
    "symbols": (0x2100, 0x27BF), "cjk_punctuation": (0x3000, 0x303F), "kana": (0x3040, 0x30FF),
    "cjk": (0x4E00, 0x9FFF), "cjk_a": (0x3400, 0x4DBF), "cjk_b": (0x20000, 0x2A6DF), "hangul": (0xAC00, 0xD7A3),
    "private": (0xE000, 0xE0FF), "compatibility": (0xF900, 0xFAFF), "fullwidth": (0xFF00, 0xFFEF),
    "specials": (0xFFF0, 0xFFFF), "math": (0x1D400, 0x1D7FF), "emoji": (0x1F300, 0x1FAFF), "tags": (0xE0000, 0xE007F),
    "control": (0x00, 0x1F), "delete": (0x7F, 0x9F),
}
CASES = [
    "", " ", "\t\n\r", "\u00a0", "\u3000a\u3000b", "a\u200bb", "a\u00adb", "caf\u00e9 cafe\u0301", "\u0130stanbul",
    "stra\u00dfe STRASSE", "\u01c5\u01c6", "\ufb01ne \ufb00", "\u1e9e", "\u03a3\u03c2\u03c3 \u039f\u0394\u039f\u03a3", "don't can't",
    "\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb", "e\u0301\u0323\u0302", "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "\U0001f1e9\U0001f1ea", "a" * 99, "a" * 100, "a" * 101, "\u4e2d" * 120, "a" * 5000, "a.b,c;d", "$5^2`~+=|<>", "\ufffd\u0000\ufffe",
    "x\u2028y\u2029z", "\ufefftext", "\u0e01\u0e33", "1,234.56 \u00bd \u00b2", "\u24b6 \u2160", "\u212b \u00c5 A\u030a", "a\u0000b", "\u202eevil",
    "_under_score_", "##ing", "[unused1] [dog] [sep] [cls]", "\u1100\u1161\u11a8", "\ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e", "\u00b5 \u03bc",
]


def word(draw, block=None):
    first, last = BLOCKS[block or draw.choice(sorted(BLOCKS))]
    length = draw.choice([1, 1, 2, 3, 3, 4, 5, 7, 11]) if draw.random() < 0.995 else draw.randint(90, 130)
    characters = [chr(draw.randint(first, last)) for _ in range(length)]
    return "".join(c for c in characters if not 0xD800 <= ord(c) <= 0xDFFF)


def text(draw):
    words = []
    for _ in range(draw.randint(1, 8)):
        words.append(word(draw, draw.choice(["ascii", "ascii", "latin1", "cjk", None, None])))
    return "".join(w + draw.choice([" ", " ", " ", "", "  ", "\t", "\u00a0", "-", ","]) for w in words)


def vocabulary(draw, texts):
    """Half of the characters that occur, as a word's first and as a later one, and longer pieces of the texts."""
    flat = ["".join(c for c in unicodedata.normalize("NFD", t.lower()) if unicodedata.category(c) != "Mn") for t in texts]
    characters = sorted({c for t in flat for c in t if not c.isspace()})
    pieces = {c for c in characters if ord(c) < 128 or draw.random() < 0.5}
    pieces |= {"##" + c for c in characters if ord(c) < 128 or draw.random() < 0.5}
    words = [w for t in flat for w in t.split() if 1 < len(w) < 30]
    for _ in range(1500):
        w = draw.choice(words)
        start = draw.randint(0, len(w) - 2)
        piece = w[start : start + draw.randint(2, 6)]
        pieces |= {piece, "##" + piece}
    return SPECIAL + sorted(p for p in pieces if p not in SPECIAL and "\n" not in p and "\r" not in p)


def pre_caption(caption, max_words=30):
    """As in salesforce/BLIP data/utils.py: lower case, punctuation to spaces, white space collapsed, words truncated."""
    caption = re.sub(r"([.!\"()*#:;~])", " ", caption.lower())
    caption = re.sub(r"\s{2,}", " ", caption)
    caption = caption.rstrip("\n").strip(" ")
    words = caption.split(" ")
    return " ".join(words[:max_words]) if len(words) > max_words else caption


def make(out, seed, live):
    folder = out / "tokenizer"
    draw = random.Random(seed)
    texts = CASES + [text(draw) for _ in range((10_000 if live else 2_000) - len(CASES))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary(draw, texts)) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    rows = [dict(text=t, ids=tokenizer(t)["input_ids"]) for t in texts]
    known = sum(i != 1 for row in rows for i in row["ids"]) / sum(len(row["ids"]) for row in rows)
    assert 0.5 < known < 0.98, f"{known:.2f} of the tokens are known: expected some, but not all"
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (folder / "texts.json").write_text(f"[\n{lines}\n]\n")
    nasty = [t for t in texts if len(t) < 400][: 2_000 if live else 400] + [
        "A dog... (running)  on the \"beach\"!!", "one\ntwo\r\nthree", "\n\n", "a\tb", "a  \t b", "word " * 40, " lead", "tail \n",
        "a\u00a0b", "a \u00a0 b", "x~y;z:w#v*u", "end.", "...", "\x1c\x1d a \x1f", "a\u2028b", "\u3000", "a.\n.b",
    ]
    cleaned = ",\n".join(json.dumps(dict(text=t, clean=pre_caption(t)), separators=(",", ":")) for t in nasty)
    (folder / "cleaning.json").write_text(f"[\n{cleaned}\n]\n")
