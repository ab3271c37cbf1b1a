"""PNG and BMP files of the kinds that Pillow does not write, byte by byte. Their pixels are noise."""

import struct
import zlib
from random import Random

from support.images import png_chunk, png_file

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced PNG, and its steps."""

PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type of a PNG -> samples of a pixel."""

PNG_KINDS = [
    *((depth, 0) for depth in (1, 2, 4, 8, 16)),
    *((depth, 2) for depth in (8, 16)),
    *((depth, 3) for depth in (1, 2, 4, 8)),
    *((depth, colour) for depth in (8, 16) for colour in (4, 6)),
]
"""All pairs of bits and colour type that a PNG can have."""

BMP_KINDS = [
    (header, bits) for header in (12, 40, 108, 124) for bits in (1, 4, 8, 16, 24, 32) if bits != 16 or header > 12
]
"""Pairs of header size and bits that a BMP can have."""


def make_png(width: int, height: int, depth: int, colour: int, *, interlaced: bool, transparent: bool) -> bytes:
    """Return a PNG file.

    Args:
        width, height: in pixels.
        depth, colour: bits and colour type, one of `PNG_KINDS`.
        interlaced: whether it is stored in the seven passes of Adam7.
        transparent: whether a tRNS chunk makes a colour transparent. Only for the colour types 0, 2 and 3.
    """
    random = Random(f"{depth} {colour}")
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // right), -(-(height - top) // down)) for left, top, right, down in passes]
    rows = []
    for columns, lines in sizes:
        row_bytes = -(-columns * depth * PNG_SAMPLES[colour] // 8)
        rows += [bytes([random.randrange(5)]) + random.randbytes(row_bytes) for _ in range(lines if columns else 0)]
    chunks = []
    if colour == 3:
        chunks.append(png_chunk(b"PLTE", random.randbytes(3 << depth)))
    if transparent:
        alpha = random.randbytes(1 << depth) if colour == 3 else struct.pack(">H", 1) * PNG_SAMPLES[colour]
        chunks.append(png_chunk(b"tRNS", alpha))
    chunks.append(png_chunk(b"IDAT", zlib.compress(b"".join(rows))))
    return png_file(struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced), *chunks)


def make_bmp(width: int, height: int, header: int, bits: int, compression: int = 0) -> bytes:
    """Return a BMP file.

    Args:
        width, height: in pixels.
        header: size of the second header: 12 (OS/2), 40, 108 or 124.
        bits: of a pixel: 1, 4, 8, 16, 24 or 32.
        compression: 0 none, 1 run lengths of 8 bits, 2 of 4 bits, 3 masks of the colours.
    """
    random = Random(f"{header} {bits} {compression}")
    colours = 1 << bits if bits <= 8 else 0
    if header == 12:
        second = struct.pack("<IHHHH", 12, width, height, 1, bits)
        palette = random.randbytes(3 * colours)
    else:
        second = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
        masks = (0xF800, 0x7E0, 0x1F, 0) if bits == 16 else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        second += struct.pack("<4I", *masks)[: 16 if header > 40 else 12] if compression == 3 or header > 40 else b""
        second = second.ljust(header, b"\0")
        palette = random.randbytes(4 * colours)
    if compression in (1, 2):
        pixels = (bytes([width, 7]) + b"\0\0") * height + b"\0\1"  # each row is one run of one colour
    else:
        pixels = random.randbytes(-(-width * bits // 32) * 4 * height)
    start = 14 + len(second) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + second + palette + pixels
