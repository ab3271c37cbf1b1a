"""Generated images, and files of kinds that Pillow does not write."""

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from trinas.images.image import Image, to_levels


def generated_photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return smooth shading, hard edges and some grain, uint8 (H, W, 3): the same on every machine."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 127 // width], axis=2)
    for _ in range(12):
        row, column, radius = random.integers(0, [height, width, max(2, height // 3)])
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.integers(0, 256, size=3)
    return np.clip(image + random.integers(-8, 9, size=image.shape), 0, 255).astype(np.uint8)


def levels_of(image: Image) -> NDArray[Any]:
    """Return an image's pixels as a file of its depth stores them."""
    return to_levels(image.pixels, image.depth)


def encode_png16(levels: NDArray[np.uint16]) -> bytes:
    """Return a PNG file of 16 bits, without metadata, of (H, W) or (H, W, C)."""
    levels = levels[:, :, 0] if levels.ndim == 3 and levels.shape[2] == 1 else levels
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(levels)))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(header: bytes, *chunks: bytes) -> bytes:
    """Return a PNG file.

    Args:
        header: the body of its first chunk.
        chunks: what follows it, without the last chunk.
    """
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def insert_chunks(content: bytes, *chunks: bytes) -> bytes:
    """Return a PNG file with more chunks, right behind its header."""
    return b"".join([content[:33], *chunks, content[33:]])


def slow_jpeg(side: int = 4000, scans: int = 20_000) -> bytes:
    """Return a progressive JPEG of few bytes that takes minutes to decode: one colour, refined again and again."""
    buffer = io.BytesIO()
    PillowImage.new("L", (side, side), 120).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * scans + content[-2:]
