"""WebP files as chunks."""

from collections.abc import Iterator

from trinas.images.stored import DecodeError

MAX_CHUNKS = 1000
"""Those behind it are not looked at. A still image has at most six, and some programs add their own."""


def list_chunks(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each chunk and the position of its content."""
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(content):
            return
        yield content[position : position + 4], position + 8
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2


def is_lossless(content: bytes) -> bool:
    """Return whether a WebP file is lossless: then its pixels are in a VP8L chunk, otherwise in a VP8 chunk."""
    return any(name == b"VP8L" for name, _ in list_chunks(content))


def read_size(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a WebP file.

    Args:
        content: the file, or its first 30 bytes.
    Raises:
        DecodeError: it is damaged.
    """
    name, start = next(list_chunks(content), (b"", 0)) if content[8:12] == b"WEBP" else (b"", 0)
    body = content[start : start + 10]
    if len(body) == 10 and name == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if len(body) == 10 and name == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(body) == 10 and name == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise DecodeError("damaged (WebP without the size of its image)")
