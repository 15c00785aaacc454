"""PIL's evaluation path: open, convert("RGB"), resize to a square with the bicubic filter.

Writes OUT/pixels/<name>.<suffix>, the encoded image, and <name>.<size>.want.png, the pixels that PIL gives. EXIF orientation
is not applied, as in the official code.
"""

import io
import random
import struct
import zlib

import numpy
from PIL import Image, ImageDraw


def scene(width, height, draw):
    """Gradients, edges and a little noise, as in photographs: resizing has to handle all three."""
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [numpy.sin(x / draw.uniform(4, 30) + y / draw.uniform(4, 30) + draw.uniform(0, 6)) for _ in range(3)]
    noise = numpy.random.default_rng(draw.randint(0, 1 << 30)).normal(0, 6, (height, width, 3))
    picture = Image.fromarray(numpy.clip(128 + 90 * numpy.stack(waves, 2) + noise, 0, 255).astype("uint8"))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        left, top = draw.randint(0, width - 8), draw.randint(0, height - 8)
        box = (left, top, left + draw.randint(6, width // 2), top + draw.randint(6, height // 2))
        pen.ellipse(box, fill=tuple(draw.randint(0, 255) for _ in range(3)))
    return picture


def encoded(picture, suffix, **options):
    out = io.BytesIO()
    picture.save(out, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return suffix, out.getvalue()


def sixteen_bit(picture, draw):
    """A PNG of 16 bits whose low bytes are noise: RGB, which PIL reads and does not write, or grey."""
    high = numpy.asarray(picture).astype(">u2") * 256
    values = high + numpy.random.default_rng(draw.randint(0, 1 << 30)).integers(0, 256, high.shape, dtype="uint16")
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    colour = 2 if high.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 16, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return "png", b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sixteen_bit_tiff(picture, draw):
    """The same as a TIFF, uncompressed in one strip."""
    high = numpy.asarray(picture).astype("<u2") * 256
    values = high + numpy.random.default_rng(draw.randint(0, 1 << 30)).integers(0, 256, high.shape, dtype="uint16")
    samples = 3 if high.ndim == 3 else 1
    data = values.astype("<u2").tobytes()
    count = 10
    after = 8 + 2 + 12 * count + 4
    short, long = 3, 4
    entries = [
        (256, long, 1, picture.width),
        (257, long, 1, picture.height),
        (258, short, samples, after if samples == 3 else 16),
        (259, short, 1, 1),
        (262, short, 1, 2 if samples == 3 else 1),
        (273, long, 1, after + 6),
        (277, short, 1, samples),
        (278, long, 1, picture.height),
        (279, long, 1, len(data)),
        (284, short, 1, 1),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, count)
    return "tiff", head + table + bytes(4) + struct.pack("<3H", 16, 16, 16) + data


def opened(data):
    picture = Image.open(io.BytesIO(data))
    if picture.mode == "I;16":
        # PIL's convert("RGB") makes all but the darkest 256 of 65,536 levels white. The high byte is the correct value.
        picture = Image.fromarray((numpy.asarray(picture) >> 8).astype("uint8"))
    return picture.convert("RGB")


def with_transparency(picture):
    picture = picture.convert("RGBA")
    fade = Image.linear_gradient("L").resize(picture.size)
    picture.putalpha(fade)
    return picture


def rotated_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees: viewers apply it, PIL's open does not
    return exif


def pictures(draw, width, height):
    new = lambda: scene(width, height, draw)
    palette = new().convert("P", palette=Image.Palette.ADAPTIVE, colors=60)
    return {
        "rgb": encoded(new(), "png"),
        "grey": encoded(new().convert("L"), "png"),
        "grey_alpha": encoded(with_transparency(new()).convert("LA"), "png"),
        "bits": encoded(new().convert("1"), "png"),
        "palette": encoded(palette, "png"),
        "palette_transparent": encoded(palette, "png", transparency=3),
        "alpha": encoded(with_transparency(new()), "png"),
        "sixteen_bit": sixteen_bit(new(), draw),
        "sixteen_bit_grey": sixteen_bit(new().convert("L"), draw),
        "bmp": encoded(new(), "bmp"),
        "gif": encoded(new(), "gif"),
        "tiff": encoded(new(), "tiff", compression="tiff_lzw"),
        "webp": encoded(new(), "webp", lossless=True),
        "jpeg": encoded(new(), "jpg", quality=90),
        "jpeg_444": encoded(new(), "jpg", quality=95, subsampling=0),
        "jpeg_422": encoded(new(), "jpg", quality=85, subsampling=1),
        "jpeg_poor": encoded(new(), "jpg", quality=30),
        "jpeg_grey": encoded(new().convert("L"), "jpg", quality=90),
        "jpeg_cmyk": encoded(new().convert("CMYK"), "jpg", quality=92),
        "jpeg_progressive": encoded(new(), "jpg", quality=88, progressive=True),
        "jpeg_optimized": encoded(new(), "jpg", quality=88, optimize=True, restart_marker_rows=1),
        "jpeg_exif": encoded(new(), "jpg", quality=90, exif=rotated_exif()),
        "sixteen_bit_tiff": sixteen_bit_tiff(new(), draw),
        "sixteen_bit_tiff_grey": sixteen_bit_tiff(new().convert("L"), draw),
    }


def make(out, seed, live):
    draw = random.Random(seed)
    folder = out / "pixels"
    for width, height, size, tag in [(97, 61, 48, "")] + ([(640, 427, 224, "_large"), (50, 70, 224, "_grown")] if live else []):
        for name, (suffix, data) in pictures(draw, width, height).items():
            (folder / f"{name}{tag}.{suffix}").write_bytes(data)
            wanted = opened(data).resize((size, size), Image.Resampling.BICUBIC)
            wanted.save(folder / f"{name}{tag}.{size}.want.png")
