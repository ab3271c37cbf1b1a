"""PNG files as chunks, and PNG files of 16 bits.

Pillow silently reduces colours of 16 bits to 8. It refuses files whose profile or texts have more than 1 MB after
decompression, and this limit can only be raised for the whole process. So the profile, XMP and EXIF are read here, and
Pillow gets the file without them.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from trinas.images.colour import MAX_PROFILE_BYTES, check_profile_size
from trinas.images.exif import EXIF_INTRODUCTION
from trinas.images.stored import DecodeError
from trinas.images.xmp import MAX_XMP_BYTES

_SIGNATURE_BYTES = 8
_HEADER_END = 33
"""Where the second chunk begins, behind IHDR."""
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_READ_HERE = (b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True)
class PngParts:
    """The parts of a PNG file."""

    bare: bytes
    """The file without texts, profile and EXIF."""
    icc_profile: bytes | None
    xmp: bytes | None
    """At most one byte longer than `MAX_XMP_BYTES`."""
    exif: bytes | None
    colour_codes: tuple[int, int] | None
    """Primaries and transfer function, as codes of ITU-T H.273."""


def split_png(content: bytes) -> PngParts:
    """Split a PNG file, or its beginning, into its parts.

    Raises:
        DecodeError: the profile or the metadata are damaged, or the profile is too large.
    """
    kept = [memoryview(content)[:_SIGNATURE_BYTES]]
    found: dict[bytes, memoryview] = {}  # the last chunk of each kind, so that only one is decompressed
    for kind, chunk in split_chunks(content):
        if kind not in _READ_HERE:
            kept.append(chunk)
        if kind != b"iTXt" or bytes(chunk[8 : 8 + len(_XMP_KEYWORD)]) == _XMP_KEYWORD:
            found[kind] = chunk
    bodies = {kind: _check_body(found[kind]) for kind in (b"iCCP", b"iTXt", b"eXIf", b"cICP") if kind in found}
    codes = bodies.get(b"cICP", b"")
    return PngParts(
        b"".join(kept),
        _read_profile(bodies[b"iCCP"]) if b"iCCP" in bodies else None,
        _read_xmp(bodies[b"iTXt"]) if b"iTXt" in bodies else None,
        EXIF_INTRODUCTION + bodies[b"eXIf"] if b"eXIf" in bodies else None,
        (codes[0], codes[1]) if len(codes) == 4 else None,
    )


def split_chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind of each chunk and all its bytes. If the file is cut short, its last chunk is too."""
    view, position = memoryview(content), _SIGNATURE_BYTES
    while position < len(content):
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        yield kind, view[position:end]
        if kind == b"IEND":
            return  # the rest of the file is not part of the image
        position = end


def read_png_beginning(file: IO[bytes]) -> bytes:
    """Return the beginning of a PNG file, up to where its pixels begin."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    parts = [file.read(_SIGNATURE_BYTES)]
    while start := file.read(8):
        parts.append(start)
        if start[4:] == b"IDAT":
            break
        chunk_bytes = int.from_bytes(start[:4], "big") + 4
        parts.append(file.read(min(chunk_bytes, size - file.tell())))  # a false size must not allocate much memory
    return b"".join(parts)


def has_16_bits(content: bytes) -> bool:
    """Return whether a PNG file stores 16 bits per channel."""
    return content[24:25] == b"\x10"


def decode_png16(content: bytes, transparent: object) -> NDArray[np.uint16]:
    """Decode a PNG file of 16 bits to (H, W, C).

    Args:
        content: the file.
        transparent: the gray value that means transparency, as an integer. Any other value means that there is none.
    """
    pixels: NDArray[np.uint16] = imagecodecs.png_decode(content)
    if pixels.ndim == 3:
        return pixels
    if not isinstance(transparent, int):
        return pixels[:, :, None]
    return np.stack([pixels, np.where(pixels == transparent, 0, 65535).astype(np.uint16)], axis=2)


def encode_png16(levels: NDArray[np.uint16], compression: int, template: bytes) -> bytes:
    """Encode (H, W, C) as a PNG file of 16 bits.

    Args:
        levels: C is 1 to 4, as in `Image.pixels`.
        compression: level of Deflate, 0 to 9.
        template: another PNG file. Its profile and metadata are copied, because the codec writes none.
    """
    content = bytes(imagecodecs.png_encode(levels[:, :, 0] if levels.shape[2] == 1 else levels, level=compression))
    extra = [chunk for kind, chunk in split_chunks(template) if kind not in (b"IHDR", b"IDAT", b"IEND")]
    return b"".join([content[:_HEADER_END], *extra, content[_HEADER_END:]])


def _check_body(chunk: memoryview) -> bytes:
    """Return the content of a chunk. Raise DecodeError if it is damaged or cut short."""
    body, checksum = bytes(chunk[8:-4]), int.from_bytes(chunk[-4:], "big")
    if len(chunk) < 12 or zlib.crc32(chunk[4:-4]) != checksum:
        raise DecodeError(f"damaged or cut short (bad checksum of {bytes(chunk[4:8]).decode()})")
    return body


def _read_profile(body: bytes) -> bytes | None:
    """Return the ICC profile, which follows a name, a zero and the compression method; None if it is damaged."""
    _, _, compressed = body.partition(b"\0")
    profile = _decompress(compressed[1:], MAX_PROFILE_BYTES)
    check_profile_size(profile)
    return profile or None


def _read_xmp(body: bytes) -> bytes | None:
    """Return the XMP packet, which follows the keyword, two flags, a language and a translation; None if damaged."""
    rest = body[len(_XMP_KEYWORD) :]
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3:
        return None
    return _decompress(parts[2], MAX_XMP_BYTES) if rest[0] else parts[2][: MAX_XMP_BYTES + 1]


def _decompress(compressed: bytes, limit: int) -> bytes | None:
    """Decompress up to one byte more than `limit`; return None if the bytes are damaged."""
    try:
        return zlib.decompressobj().decompress(compressed, limit + 1)
    except zlib.error:
        return None
