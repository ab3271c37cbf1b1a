"""PNG files as chunks, and PNG files of 16 bits.

Pillow silently reduces colours of 16 bits to 8. It refuses files whose profile or texts have more than 1 MB after
decompression, and this limit can only be raised for the whole process. So the profile, XMP and EXIF are read here, and
Pillow gets the file without them.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from trinas.images.colour import MAX_PROFILE_BYTES
from trinas.images.exif import EXIF_INTRODUCTION
from trinas.images.stored import DecodeError
from trinas.images.xmp import MAX_XMP_BYTES

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIGNATURE_BYTES = len(_SIGNATURE)
_HEADER_END = 33
"""Where the second chunk begins, behind IHDR."""
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_KEPT = (b"tRNS", b"pHYs", b"acTL", b"fcTL")
"""The chunks that Pillow gets, beside those without which no pixels can be decoded."""

_MAX_CHUNKS = 10_000
_CHUNK_BYTES = 1024  # large files may have more chunks, if they have this size on average

_GRAY_KINDS = (0, 4)
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Kind of a PNG file -> its channels. (Palettes do not have 16 bits.)"""

_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced file: first column and row, and the steps to the next ones."""

PNG16_COPIES = 6
"""How often `decode_png16` has the pixels in memory: filtered, packed, as a file, decoded, as a result, with alpha."""

_MAX_IDAT_BYTES = 1 << 30


@dataclass(frozen=True)
class PngParts:
    """The parts of a PNG file."""

    bare: bytes
    """The file with nothing but what decodes its pixels."""
    icc_profile: bytes | None
    xmp: bytes | None
    """Both are cut, one byte behind `MAX_PROFILE_BYTES` and `MAX_XMP_BYTES`."""
    exif: bytes | None
    colour_codes: tuple[int, int] | None
    """Primaries and transfer function, as codes of ITU-T H.273."""


def split_png(content: bytes) -> PngParts:
    """Split a PNG file, or its beginning, into its parts.

    Raises:
        DecodeError: header, profile or metadata are damaged.
    """
    if content[12:16] != b"IHDR":
        raise DecodeError("damaged (it does not begin with its header)")
    kept = [memoryview(content)[:_SIGNATURE_BYTES]]
    found: dict[bytes, memoryview] = {}  # the last chunk of each kind, so that only one is decompressed
    for kind, chunk in split_chunks(content):
        if kind in _KEPT or kind[:1].isupper():
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
    """Yield the kind of each chunk and all its bytes. If the file is cut short, its last chunk is too.

    Raises:
        DecodeError: there are so many chunks that reading them takes long.
    """
    view, position = memoryview(content), _SIGNATURE_BYTES
    for _ in range(_limit_chunks(len(content))):
        if position >= len(content):
            return
        end = position + 12 + int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        yield kind, view[position:end]
        if kind == b"IEND":
            return  # the rest of the file is not part of the image
        position = end
    raise DecodeError("damaged (it consists of too many parts)")


def read_png_beginning(file: IO[bytes]) -> bytes:
    """Return the beginning of a PNG file, up to where its pixels begin."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    parts = [file.read(_SIGNATURE_BYTES)]
    for _ in range(_limit_chunks(size)):
        start = file.read(8)
        parts.append(start)
        if start[4:] in (b"IDAT", b""):
            break
        chunk_bytes = int.from_bytes(start[:4], "big") + 4
        parts.append(file.read(min(chunk_bytes, size - file.tell())))  # a false size must not allocate much memory
    return b"".join(parts)


def has_16_bits(content: bytes) -> bool:
    """Return whether a PNG file stores 16 bits per channel."""
    return content[24:25] == b"\x10"


def is_gray_png(content: bytes) -> bool:
    """Return whether a PNG file is gray, with or without alpha."""
    return content[25] in _GRAY_KINDS


def decode_png16(content: bytes) -> NDArray[np.uint16]:
    """Decode a PNG file of 16 bits to (H, W, C).

    The codec writes warnings to standard error. So it never gets a cause: it only sees pixels that are complete and
    stored without compression, passes of interlaced files as files of their own, and no other chunks.

    Args:
        content: the file, as `PngParts.bare`.
    Raises:
        DecodeError: the file is damaged or cut short. The codec raises other errors.
    """
    width, height, _, kind, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    bodies: dict[bytes, list[bytes]] = {b"IDAT": [], b"tRNS": []}
    for name, chunk in split_chunks(content):
        if name in bodies:
            bodies[name].append(_check_body(chunk))
    compressed = b"".join(bodies.pop(b"IDAT"))
    pixels = _decode_passes(width, height, kind, compressed, _ADAM7 if interlaced else _ONE_PASS)
    return _add_alpha(pixels, bodies[b"tRNS"][-1]) if bodies[b"tRNS"] else pixels


def _inflate(compressed: bytes, length: int) -> bytes:
    """Decompress to `length` bytes. Surplus bytes are ignored. Raise DecodeError or zlib.error if there are fewer."""
    try:
        content = bytes(imagecodecs.deflate_decode(compressed, out=length))
    except imagecodecs.DeflateError:  # damaged, or with surplus bytes, which only zlib takes
        content = zlib.decompressobj().decompress(compressed, length)
    if len(content) < length:
        raise DecodeError("damaged or cut short (pixels are missing)")
    return content


def _decode_passes(
    width: int, height: int, kind: int, compressed: bytes, passes: tuple[tuple[int, int, int, int], ...]
) -> NDArray[np.uint16]:
    """Decode pass after pass."""
    sizes = [(max(0, -(-(width - x) // across)), max(0, -(-(height - y) // down))) for x, y, across, down in passes]
    lengths = [rows * (1 + 2 * _CHANNELS[kind] * columns) if columns else 0 for columns, rows in sizes]
    filtered = memoryview(_inflate(compressed, sum(lengths)))
    pixels = np.empty((height, width, _CHANNELS[kind]), np.uint16)
    start = 0
    for (x, y, across, down), size, length in zip(passes, sizes, lengths, strict=True):
        if length:
            stored = zlib.compress(filtered[start : start + length], 0)
            pixels[y::down, x::across] = _decode_pass(*size, kind, stored)
        start += length
    return pixels


def _decode_pass(width: int, height: int, kind: int, compressed: bytes) -> NDArray[np.uint16]:
    """Decode the pixels of a file without interlacing to (H, W, C)."""
    parts = [compressed[start : start + _MAX_IDAT_BYTES] for start in range(0, len(compressed), _MAX_IDAT_BYTES)]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *((b"IDAT", part) for part in parts), (b"IEND", b"")]
    content = b"".join([_SIGNATURE, *(part for name, body in chunks for part in _make_chunk(name, body))])
    pixels: NDArray[np.uint16] = imagecodecs.png_decode(content)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _make_chunk(kind: bytes, body: bytes) -> tuple[bytes, ...]:
    """Return the parts of a chunk."""
    return struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _add_alpha(pixels: NDArray[np.uint16], transparent: bytes) -> NDArray[np.uint16]:
    """Return pixels with alpha, 0 where they have the one colour that is transparent."""
    if len(transparent) != 2 * pixels.shape[2]:
        return pixels
    is_transparent = (pixels == np.frombuffer(transparent, ">u2")).all(axis=2, keepdims=True)
    return np.concatenate([pixels, np.where(is_transparent, 0, 65535).astype(np.uint16)], axis=2)


def _limit_chunks(size: int) -> int:
    """Return how many chunks a file of `size` bytes may have."""
    return _MAX_CHUNKS + size // _CHUNK_BYTES


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
