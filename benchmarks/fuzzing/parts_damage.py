"""Damage to formats that are chains of parts: PNG, JPEG, WebP, AVIF. And to BMP, whose header has fixed places.

A part is damaged inside, in its length or name, or taken out, repeated or moved. All lengths and checksums are right
unless they are what is damaged, so that readers get far into the file.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from support.images import png_chunk

from .bytes_damage import Damage, damage_bytes, overwrite, pick_extreme, set_early_word
from .text_damage import damage_xmp
from .tiff_damage import damage_tiff

_REPEATS = (2, 30, 1000)
_MAX_REPEATED_BYTES = 1 << 20
_XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"
_JPEG_MARKERS = b"\xc0\xc1\xc2\xc3\xc4\xc9\xcc\xd8\xd9\xda\xdb\xdc\xdd\xe0\xe1\xe2\xee\xfe"
_JPEG_XMP, _JPEG_ICC = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"


@dataclass(frozen=True)
class Part:
    """A chunk, a segment or a box."""

    name: bytes
    body: bytes
    length: int | None = None
    """What the file says that its length is; None: the right one."""


@dataclass(frozen=True)
class Layout:
    """How a format is made of parts."""

    split: Callable[[bytes], tuple[bytes, list[Part]]]
    """Return what comes before the first part, and the parts."""
    join: Callable[[bytes, Sequence[Part]], bytes]
    """Make a file of what `split` returned."""
    damage_body: Callable[[Random, Part], bytes]
    """Return the damaged body of a part."""
    length_bytes: int
    names: tuple[bytes, ...]
    """Names of parts that readers look at."""


def damage_parts(layout: Layout, random: Random, content: bytes, other: bytes) -> bytes:
    """Damage one part of a file in its body, its length or its place.

    Args:
        layout: of the file's format.
        random: decides.
        content: of the file.
        other: another file of this format, from which parts are taken.
    """
    start, parts = layout.split(content)
    if not parts:
        return damage_bytes(random, content)
    number = random.randrange(len(parts))
    part, change = parts[number], random.randrange(12)
    if change < 6:
        parts[number] = replace(part, body=layout.damage_body(random, part))
    elif change == 6:
        parts[number] = replace(part, length=_pick_length(random, len(part.body), layout.length_bytes))
    elif change == 7:
        parts[number] = replace(part, name=random.choice(layout.names))
    elif change == 8:
        del parts[number]
    elif change == 9:
        count = min(random.choice(_REPEATS), 1 + _MAX_REPEATED_BYTES // (len(part.body) + 1))
        parts[number:number] = [part] * count
    elif change == 10:
        parts.insert(random.randrange(len(parts) + 1), parts.pop(number))
    else:
        others = layout.split(other)[1] or [Part(random.choice(layout.names), random.randbytes(20))]
        parts.insert(number, random.choice(others))
    return layout.join(start, parts)


def _pick_length(random: Random, length: int, size: int) -> int:
    return random.choice((length + 1, max(0, length - 1), 0, pick_extreme(random, size))) % 256**size


def damage_profile(random: Random, profile: bytes) -> bytes:
    """Damage a colour profile: its header, its table of tags, or any bytes."""
    if len(profile) < 200 or random.random() < 0.4:
        return damage_bytes(random, profile)
    position = random.choice((0, 12, 16, 20, 36, 128, 128 + 4 * random.randrange(20)))
    new = random.choice(
        (pick_extreme(random, 4).to_bytes(4, "big"), b"CMYK", b"GRAY", b"RGB ", b"Lab ", b"mft1", b"mAB ")
    )
    return overwrite(profile, position, new)


def damage_compressed(random: Random, compressed: bytes, damage: Damage) -> bytes:
    """Damage what a Deflate stream holds."""
    try:
        return zlib.compress(damage(random, zlib.decompress(compressed)))
    except zlib.error:
        return damage_bytes(random, compressed)


def split_png(content: bytes) -> tuple[bytes, list[Part]]:
    """Split a PNG file into chunks."""
    parts, position = [], 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 8 : position + 8 + length]
        parts.append(Part(content[position + 4 : position + 8], body))
        position += 12 + length
    return content[:8], parts


def join_png(start: bytes, parts: Sequence[Part]) -> bytes:
    """Make a PNG file of chunks, with right checksums."""
    chunks = [start]
    for part in parts:
        chunk = png_chunk(part.name, part.body)
        chunks.append(chunk if part.length is None else struct.pack(">I", part.length) + chunk[4:])
    return b"".join(chunks)


def _damage_png_body(random: Random, part: Part) -> bytes:
    if part.name == b"IHDR":
        return _damage_png_header(random, part.body)
    if part.name == b"IDAT" and random.random() < 0.8:
        return damage_compressed(random, part.body, damage_bytes)
    if part.name == b"iCCP":
        name, _, compressed = part.body.partition(b"\0")
        return name + b"\0\0" + damage_compressed(random, compressed[1:], damage_profile)
    if part.name == b"eXIf":
        return damage_tiff(random, part.body)
    if part.name == b"iTXt":
        return _XMP_KEYWORD + damage_xmp(random, part.body[len(_XMP_KEYWORD) :])
    return damage_bytes(random, part.body)


def _damage_png_header(random: Random, body: bytes) -> bytes:
    if random.random() < 0.3:
        return damage_bytes(random, body)
    if random.random() < 0.3:
        side = random.choice((0, 1, 35, 37, 1000, pick_extreme(random, 4)))
        return overwrite(body, random.choice((0, 4)), struct.pack(">I", side))
    return body[:8] + bytes([random.choice((1, 2, 4, 8, 16)), random.randrange(7), 0, 0, random.randrange(2)])


def split_jpeg(content: bytes) -> tuple[bytes, list[Part]]:
    """Split a JPEG file into segments. Compressed pixels, and markers without a length, are parts without a name."""
    parts, position = [], 0
    while position < len(content):
        end = position + 2
        if content[position + 1 : end] not in _WITHOUT_LENGTH:
            end += int.from_bytes(content[position + 2 : position + 4], "big")
            parts.append(Part(content[position : position + 2], content[position + 4 : end]))
            position = end
        while end < len(content) and (content[end] != 0xFF or content[end + 1 : end + 2] in _IN_PIXELS):
            end += 1
        if end > position:
            parts.append(Part(b"", content[position:end]))
        position = end
    return b"", parts


_IN_PIXELS = (b"", b"\0", b"\xff", *(bytes([0xD0 + number]) for number in range(8)))
"""What follows 0xFF where no segment begins: a padded value, filling, or a restart."""
_WITHOUT_LENGTH = (*_IN_PIXELS, b"\x01", b"\xd8", b"\xd9")


def join_jpeg(start: bytes, parts: Sequence[Part]) -> bytes:
    """Make a JPEG file of segments, with right lengths."""
    return start + b"".join(_join_segment(part) for part in parts)


def _join_segment(part: Part) -> bytes:
    length = min(2 + len(part.body), 65535) if part.length is None else part.length
    return part.name + struct.pack(">H", length) + part.body if part.name else part.body


def _damage_jpeg_body(random: Random, part: Part) -> bytes:
    head, damage = _choose_jpeg_damage(part)
    return head + damage(random, part.body[len(head) :])


def _choose_jpeg_damage(part: Part) -> tuple[bytes, Damage]:
    """Return what a segment begins with, and how the rest is damaged."""
    if part.body.startswith(b"Exif\0\0"):
        return b"Exif\0\0", damage_tiff
    if part.body.startswith(_JPEG_XMP):
        return _JPEG_XMP, damage_xmp
    if part.body.startswith(_JPEG_ICC):
        return part.body[: len(_JPEG_ICC) + 2], damage_profile
    if part.body.startswith(b"MPF\0"):
        return b"MPF\0", damage_tiff
    return b"", set_early_word if part.name == b"\xff\xc0" else damage_bytes


def split_webp(content: bytes) -> tuple[bytes, list[Part]]:
    """Split a WebP file into chunks."""
    parts, position = [], 12
    while position + 8 <= len(content):
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        body = content[position + 8 : position + 8 + length]
        parts.append(Part(content[position : position + 4], body))
        position += 8 + length + length % 2
    return content[:12], parts


def join_webp(start: bytes, parts: Sequence[Part]) -> bytes:
    """Make a WebP file of chunks."""
    chunks = b"".join(
        part.name
        + struct.pack("<I", len(part.body) if part.length is None else part.length)
        + part.body
        + bytes(len(part.body) % 2)
        for part in parts
    )
    return start[:4] + struct.pack("<I", 4 + len(chunks)) + start[8:12] + chunks


def _damage_webp_body(random: Random, part: Part) -> bytes:
    damage = {b"EXIF": damage_tiff, b"XMP ": damage_xmp, b"ICCP": damage_profile}.get(part.name)
    if damage is None:
        damage = random.choice((damage_bytes, set_early_word))
    return damage(random, part.body)


LAYOUTS = {
    "png": Layout(
        split_png, join_png, _damage_png_body, 4,
        (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt",
         b"iTXt", b"eXIf", b"pHYs", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"tIME", b"acTL", b"fcTL", b"fdAT", b"CgBI"),
    ),
    "jpg": Layout(
        split_jpeg, join_jpeg, _damage_jpeg_body, 2,
        tuple(b"\xff" + bytes([marker]) for marker in _JPEG_MARKERS),
    ),
    "webp": Layout(
        split_webp, join_webp, _damage_webp_body, 4,
        (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "),
    ),
}  # fmt: skip
"""Kind of file -> its layout."""

_ISO_FOLDERS = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"iinf": 14, b"iref": 12, b"moov": 8, b"trak": 8, b"mdia": 8}
"""Name of a box that holds boxes -> where they begin in it."""


def find_boxes(content: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of every box of an AVIF file, also of those inside others."""
    while start + 8 <= end:
        size = int.from_bytes(content[start : start + 4], "big")
        stop = min(end, start + size if size >= 8 else end)
        yield start, stop
        inside = _ISO_FOLDERS.get(content[start + 4 : start + 8])
        if inside:
            yield from find_boxes(content, start + inside, stop)
        start = stop


def damage_avif(random: Random, content: bytes) -> bytes:
    """Damage a box in its size, its name or its body, take it out or repeat it; or damage the EXIF or the XMP."""
    change = random.randrange(10)
    if change < 2:
        return _damage_avif_metadata(random, content)
    boxes = list(find_boxes(content, 0, len(content)))
    if not boxes:
        return damage_bytes(random, content)
    start, end = random.choice(boxes)
    if change == 2:
        size = random.choice((0, 1, 7, 8, end - start + 1, end - start - 1, pick_extreme(random, 4)))
        return overwrite(content, start, struct.pack(">I", size % 2**32))
    if change == 3:
        other = random.choice(boxes)[0]
        return overwrite(content, start + 4, content[other + 4 : other + 8])
    if change == 4:
        return content[:start] + content[end:]
    if change == 5:
        return content[:end] + content[start:end] * random.choice(_REPEATS[:2]) + content[end:]
    body = content[start + 8 : end]
    damage = random.choice((damage_bytes, set_early_word))
    return content[: start + 8] + damage(random, body)[: len(body)].ljust(len(body), b"\0") + content[end:]


def _damage_avif_metadata(random: Random, content: bytes) -> bytes:
    """Damage the EXIF or the XMP in its place, without a change of its length."""
    for mark, damage in random.sample(
        ((b"II*\0", damage_tiff), (b"MM\0*", damage_tiff), (b"<x:xmpmeta", damage_xmp)), 3
    ):
        start = content.find(mark)
        if start >= 0:
            rest = content[start:]
            return content[:start] + damage(random, rest)[: len(rest)]
    return damage_bytes(random, content)


def damage_bmp(random: Random, content: bytes) -> bytes:
    """Set a field of the two headers to an extreme value."""
    position, size = random.choice(
        (
            (2, 4),
            (10, 4),
            (14, 4),
            (18, 4),
            (22, 4),
            (26, 2),
            (28, 2),
            (30, 4),
            (34, 4),
            (46, 4),
            (50, 4),
            (54, 4),
            (70, 4),
        )
    )
    number = random.choice((random.randrange(40), pick_extreme(random, size)))
    return overwrite(content, position, number.to_bytes(size, "little"))
