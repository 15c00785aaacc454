"""Which image files are complete, by Pillow and libjpeg-turbo, and their pixels.

Writes OUT/files/<name>.<suffix>, the file, OUT/files/<name>.want.png, its pixels, and OUT/files/files.json: for every file its
suffix, whether Pillow decodes it ("whole", "truncated" or "broken"), and for some from which length on a cut file is whole. Where blip differs on purpose, `blip` has its verdict. EXIF orientation is not applied in any format, as in the official
code. Pillow's TIFF reader alone applies it when it loads: the pixels of such a file are those of the same one without the tag.
"""

import io
import json
import random
import struct

from PIL import Image, ImageFile

from pixels import encoded, scene

assert not ImageFile.LOAD_TRUNCATED_IMAGES


def verdict(data):
    """How Pillow's decoder ends, and the pixels."""
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return "whole", picture.convert("RGB")
    except OSError as error:
        return ("truncated" if "truncated" in str(error) else "broken"), None
    except SyntaxError:
        return "broken", None


def oriented(value=6):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def with_thumbnail(jpeg, thumbnail):
    """The JPEG with another one in an APP1 segment, as cameras write it."""
    data = b"Exif\0\0" + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def with_size(jpeg, width, height):
    """The JPEG with another size in its header."""
    at = next(jpeg.index(b"\xff" + kind) for kind in (b"\xc0", b"\xc1", b"\xc2") if b"\xff" + kind in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def with_tiff_orientation(tiff, value):
    """The TIFF with another value of its orientation."""
    entry = lambda value: struct.pack("<HHIHH", 0x0112, 3, 1, value, 0)
    found = [entry(old) for old in range(1, 9) if entry(old) in tiff]
    assert len(found) == 1 and tiff.count(found[0]) == 1
    return tiff.replace(found[0], entry(value))


def frames(draw, width, height, count=3):
    return [scene(width, height, draw) for _ in range(count)]


def saved(pictures, kind, **options):
    out = io.BytesIO()
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], **options)
    return out.getvalue()


def small_frame_gif(draw):
    """A GIF whose first frame covers a part of the canvas."""
    data = bytearray(encoded(scene(20, 16, draw), "gif")[1])
    data[6:10] = struct.pack("<HH", 40, 32)
    at = data.index(b"\x2c\0\0\0\0")
    data[at + 1 : at + 5] = struct.pack("<HH", 9, 7)
    return bytes(data)


def jpegs(draw):
    new = lambda width=40, height=32, **options: encoded(scene(width, height, draw), "jpg", **options)[1]
    plain = new(quality=90)
    noise = bytes(draw.randrange(255) for _ in range(7_000))
    yield "plain", plain
    yield "zeros_after_its_end", plain + bytes(9000)
    yield "byte_after_its_end", plain + b"x"
    yield "data_after_its_end", plain + noise
    yield "thumbnail", with_thumbnail(plain, new(16, 16, quality=60))
    yield "thumbnail_cut", with_thumbnail(plain, new(16, 16, quality=60))[:-200]
    yield "cut_with_data_after", plain[:-300] + b"\0" + noise
    yield "no_end", plain[:-2]
    yield "half_an_end", plain[:-1]
    yield "restarts", new(quality=90, restart_marker_blocks=2)
    yield "restarts_cut", new(quality=90, restart_marker_blocks=2)[:-60]
    yield "progressive", new(quality=90, progressive=True)
    yield "progressive_cut", new(quality=90, progressive=True)[:-30]
    yield "cmyk", encoded(scene(40, 32, draw).convert("CMYK"), "jpg", quality=92)[1]
    yield "grey", encoded(scene(40, 32, draw).convert("L"), "jpg", quality=92)[1]
    yield "exif_orientation", new(quality=90, exif=oriented())
    yield "mpo", saved(frames(draw, 40, 32), "MPO")
    for width in (1, 2, 3, 4, 5):
        for subsampling in (0, 1, 2):
            picture = scene(40, 32, draw).crop((9, 7, 9 + width, 18))
            yield f"narrow_{width}_{subsampling}", encoded(picture, "jpg", quality=90, subsampling=subsampling)[1]
            picture = scene(40, 32, draw).crop((9, 7, 20, 7 + width))
            yield f"low_{width}_{subsampling}", encoded(picture, "jpg", quality=90, subsampling=subsampling)[1]
    yield "says_it_is_higher", with_size(plain, 40, 64)
    yield "says_it_is_wider", with_size(plain, 80, 32)


def others(draw):
    new = lambda: scene(40, 32, draw)
    yield "gif_small_frame", "gif", small_frame_gif(draw)
    yield "gif_animated", "gif", saved(frames(draw, 40, 32), "GIF")
    yield "webp_animated", "webp", saved(frames(draw, 40, 32), "WEBP", lossless=True)
    yield "png_animated", "png", saved(frames(draw, 40, 32), "PNG")
    yield "png_exif_orientation", "png", encoded(new(), "png", exif=oriented())[1]
    yield "webp_exif_orientation", "webp", encoded(new(), "webp", lossless=True, exif=oriented())[1]
    yield "tiff_palette", "tiff", encoded(new().convert("P", palette=Image.Palette.ADAPTIVE, colors=60), "tiff")[1]
    yield "tiff_grey", "tiff", encoded(new().convert("L"), "tiff")[1]
    yield "tiff_cmyk", "tiff", encoded(new().convert("CMYK"), "tiff")[1]
    yield "tiff_pages", "tiff", saved(frames(draw, 40, 32), "TIFF")
    yield "png_cut", "png", encoded(new(), "png")[1][:-400]
    yield "gif_cut", "gif", encoded(new(), "gif")[1][:-100]
    yield "webp_cut", "webp", encoded(new(), "webp", lossless=True)[1][:-100]
    yield "bmp_cut", "bmp", encoded(new(), "bmp")[1][:-100]
    yield "tiff_cut", "tiff", encoded(new(), "tiff")[1][:-100]
    # New ones come last: those before them stay as they are.
    tiff = encoded(new(), "tiff", tiffinfo={0x0112: 6})[1]
    for value in (3, 6, 7):
        yield f"tiff_orientation_{value}", "tiff", with_tiff_orientation(tiff, value)
    plain, progressive = encoded(new(), "jpg", quality=90)[1], encoded(new(), "jpg", quality=90, progressive=True)[1]
    yield "says_it_is_huge", "jpg", with_size(plain, 16_000, 4_000)
    yield "progressive_says_it_is_huge", "jpg", with_size(progressive, 16_000, 4_000)
    yield "progressive_says_it_is_higher", "jpg", with_size(progressive, 40, 320)
    yield "progressive_says_it_is_wider", "jpg", with_size(progressive, 400, 32)
    yield "progressive_grey", "jpg", encoded(new().convert("L"), "jpg", quality=90, progressive=True)[1]
    yield "progressive_restarts", "jpg", encoded(new(), "jpg", progressive=True, restart_marker_blocks=2)[1]
    yield "progressive_black", "jpg", encoded(Image.new("RGB", (400, 320)), "jpg", progressive=True)[1]
    yield "mpo_exif_orientation", "jpg", saved(frames(draw, 40, 32), "MPO", exif=oriented())


# What blip says where it differs.
DIFFERENT = {
    # libjpeg fills the missing rows with grey, and Pillow does not look at its warning.
    "says_it_is_higher": "corrupt",
    "says_it_is_wider": "corrupt",
    "says_it_is_huge": "corrupt",
    "progressive_says_it_is_huge": "corrupt",
    "progressive_says_it_is_higher": "corrupt",
    "progressive_says_it_is_wider": "corrupt",
    # Pillow takes what follows for the missing rows, though the end of the picture never comes.
    "cut_with_data_after": "truncated",
    # Palettes in TIFF files are refused by name.
    "tiff_palette": "unsupported",
}


def make(out, seed, live):
    draw = random.Random(seed)
    folder = out / "files"
    table = []
    files = [(name, "jpg", data) for name, data in jpegs(draw)] + list(others(draw))
    for name, suffix, data in files:
        found, picture = verdict(data)
        (folder / f"{name}.{suffix}").write_bytes(data)
        if name.startswith("tiff_orientation"):
            picture = verdict(with_tiff_orientation(data, 1))[1]
        if picture is not None and name not in DIFFERENT:
            picture.save(folder / f"{name}.want.png")
        row = {"name": name, "suffix": suffix, "verdict": found}
        if name in DIFFERENT:
            row["blip"] = DIFFERENT[name]
        if name in ("thumbnail", "restarts", "progressive"):
            row["whole_from"] = [length for length in range(len(data) + 1) if verdict(data[:length])[0] == "whole"][0]
        table.append(row)
    (folder / "files.json").write_text(json.dumps(table, indent=1) + "\n")
