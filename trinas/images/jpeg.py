"""The segments of a JPEG stream, read within bounds before a decoder sees them.

Decoders spend time on every segment and every scan that a file has, and a small file can have very many.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from trinas.images.stored import DecodeError

MAX_SEGMENTS = 4096
"""Before the pixels. A colour profile has up to 255, XMP of many megabytes some hundred."""
_MAX_EXIF_SEGMENTS = 64  # Pillow joins them one by one
MAX_SCANS = 100
"""Progressive files have about ten."""

_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_FRAMES = frozenset({*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})
_SEGMENTS = _FRAMES | {0xC4, 0xCC, *range(0xDA, 0xF0), 0xFE}
_NOT_A_SEGMENT = frozenset({0x00, *range(0xD0, 0xDA), 0xFF})  # single markers, and bytes that fill a gap
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_MAX_SKIPPED_BYTES = 1 << 16
_SCAN_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the other bytes after 0xff are part of a scan


@dataclass(frozen=True)
class Frame:
    """What a JPEG stream says about its image."""

    width: int
    height: int
    bits: int
    """Per sample."""


def check_header(file: IO[bytes]) -> None:
    """Refuse a JPEG file whose header has so many segments that reading it takes long.

    Args:
        file: at its beginning. No more of it is read than the header.
    Raises:
        DecodeError: there are too many segments, or the header is damaged.
    """
    exif_segments = sum(marker == _APP1 and file.read(5) == b"Exif\0" for marker, _ in _walk_header(file))
    if exif_segments > _MAX_EXIF_SEGMENTS:
        raise DecodeError("damaged (JPEG with too many segments of EXIF)")


def read_frame(stream: bytes) -> Frame:
    """Return what a JPEG stream says about its image.

    Args:
        stream: the stream, or its beginning.
    Raises:
        DecodeError: it is damaged, or neither baseline nor progressive.
    """
    file = io.BytesIO(stream)
    for marker, _ in _walk_header(file):
        if marker in _HUFFMAN_FRAMES:
            bits, height, width = file.read(1), file.read(2), file.read(2)
            return Frame(int.from_bytes(width, "big"), int.from_bytes(height, "big"), int.from_bytes(bits, "big"))
        if marker in _FRAMES:
            raise DecodeError("JPEG that is neither baseline nor progressive is not supported; convert it first")
    raise DecodeError("damaged (JPEG without the size of its image)")


def check_scans(stream: bytes) -> None:
    """Refuse a JPEG stream of so many scans that decoding it takes long. Each goes over the whole image.

    Raises:
        DecodeError: there are too many scans.
    """
    if stream.count(b"\xff\xda") <= MAX_SCANS:  # fast; these bytes also occur in metadata and behind the image
        return
    file = io.BytesIO(stream)
    position = next((start for marker, start in _walk_header(file) if marker == _START_OF_SCAN), len(stream))
    scans = 1
    while (found := _SCAN_MARKER.search(stream, position)) and stream[found.end() - 1] != _END_OF_IMAGE:
        scans += stream[found.end() - 1] == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise DecodeError(f"has more than {MAX_SCANS} scans, which no camera or program writes; save it anew")
        position = found.end() + int.from_bytes(stream[found.end() : found.end() + 2], "big")


def _walk_header(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment and the position of its content, where the file then is, up to the first scan.

    As Pillow does, bytes between segments are skipped. Raise DecodeError if there are too many of either.
    """
    position, segments, skipped_bytes = 2, 0, 0
    while max(segments / MAX_SEGMENTS, skipped_bytes / _MAX_SKIPPED_BYTES) <= 1:
        file.seek(position)
        start = file.read(4)
        if len(start) < 4:
            return
        if start[0] != 0xFF or start[1] in _NOT_A_SEGMENT:
            position += 1
            skipped_bytes += 1
            continue
        if start[1] not in _SEGMENTS:
            raise DecodeError(f"damaged (JPEG with the unknown segment {start[1]:#x})")
        file.seek(position + 4)
        yield start[1], position + 4
        if start[1] == _START_OF_SCAN:
            return
        position += 2 + max(2, int.from_bytes(start[2:], "big"))
        segments += 1
    raise DecodeError("damaged (JPEG with too many segments before its pixels)")
