"""EXIF as directories of tags. Values are kept as the bytes of the file, so that they can be written unchanged.

Pillow's own reader and writer lose letters outside ASCII and the types of values.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, Union

from PIL.ExifTags import IFD

from trinas.images.exif_tags import LONG, RATIONAL, SHORT, is_as_specified

MAX_EXIF_BYTES = 16 << 20
"""Values beyond this are left out. Makers' own data have up to some megabytes."""

MAX_TAGS = 4096
"""In all directories together. Tags beyond this are left out; cameras write below 200."""

UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of a value -> bytes of one number."""

_LONG8 = 16  # this type and higher ones exist in BigTIFF, but not in EXIF
EXIF_INTRODUCTION = b"Exif\0\0"
"""Comes before EXIF in most files, but is not part of it."""
_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are those of BigTIFF
_INNER: dict[int | None, tuple[int, ...]] = {None: (IFD.Exif, IFD.GPSInfo), IFD.Exif: (IFD.Interop,)}
"""Directory (None for the first) -> its tags that hold directories."""


@dataclass(frozen=True)
class Value:
    """The value of a tag."""

    kind: int
    """Its type, numbered as in TIFF."""
    content: bytes
    """In the byte order of its EXIF."""


Directory: TypeAlias = dict[int, Union[Value, "Directory"]]
"""Tag -> its value."""


@dataclass
class Exif:
    """The first directory, with the directories inside it. The thumbnail's directory is left out."""

    order: Literal["<", ">"]
    """Byte order: < or >, as in `struct`."""
    tags: Directory
    is_whole: bool = True
    """Whether it is complete. If not, damaged parts were left out."""

    def get_integer(self, tag: int) -> int | None:
        """Return the value of a tag; None if it is not an unsigned integer."""
        value = self.tags.get(tag)
        if not isinstance(value, Value) or value.kind not in (SHORT, LONG):
            return None
        return int(struct.unpack_from(self.order + ("H" if value.kind == SHORT else "I"), value.content)[0])

    def get_ratio(self, tag: int) -> float | None:
        """Return the value of a tag; None if it is not a fraction."""
        value = self.tags.get(tag)
        if not isinstance(value, Value) or value.kind != RATIONAL:
            return None
        numerator, denominator = struct.unpack_from(self.order + "II", value.content)
        return numerator / denominator if denominator else None

    def make_integers(self, kind: int, *values: int) -> Value:
        """Return a value for a tag, of the type SHORT or LONG."""
        return Value(kind, struct.pack(f"{self.order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))

    def make_rational(self, number: float) -> Value:
        """Return a value for a tag, as a fraction.

        Args:
            number: positive and below 400,000.
        """
        fraction = Fraction(number).limit_denominator(10_000)
        return Value(RATIONAL, struct.pack(self.order + "II", fraction.numerator, fraction.denominator))

    def make_tiff_header(self) -> bytes:
        """Return the first eight bytes of a TIFF file. The first directory must follow at once."""
        return {"<": b"II", ">": b"MM"}[self.order] + struct.pack(self.order + "HI", 42, 8)

    def to_bytes(self) -> bytes:
        """Return the EXIF as the bytes of a file."""
        return EXIF_INTRODUCTION + self.make_tiff_header() + serialise(self.tags, self.order, 8)


def parse_exif(content: bytes | None, wanted: Collection[int] | None = None) -> Exif | None:
    """Parse the EXIF of an image, or the first directory of a TIFF or BigTIFF file.

    Args:
        content: a TIFF structure, with or without "Exif" and two zeros before it.
        wanted: the tags of the first directory to read. None: all.
    Returns:
        The EXIF without damaged parts; None if no part is undamaged.
    """
    while content and content.startswith(EXIF_INTRODUCTION):
        content = content[len(EXIF_INTRODUCTION) :]
    if not content or content[:4] not in _BEGINNINGS:
        return None
    reader = _Reader(content, wanted)
    try:
        tags = reader.read_first_directory()
    except struct.error:
        return None
    return Exif(reader.order, tags, reader.is_whole) if tags else None


def serialise(tags: Directory, order: str, start: int) -> bytes:
    """Return the bytes of a directory and of everything that it refers to.

    Args:
        tags: at most 65,535.
        order: byte order, < or >.
        start: position of the bytes in the TIFF structure.
    """
    entries, behind = [struct.pack(order + "H", len(tags))], []
    position = start + 2 + 12 * len(tags) + 4  # of the bytes that are appended next to `behind`
    for tag, value in sorted(tags.items()):
        field_position = position
        if isinstance(value, dict):
            behind.append(serialise(value, order, position))
            position += len(behind[-1])
            value = Value(LONG, struct.pack(order + "I", field_position))
        field = value.content.ljust(4, b"\0")
        if len(field) > 4:
            behind.append(field + b"\0" * (len(field) % 2))
            position += len(behind[-1])
            field = struct.pack(order + "I", field_position)
        entries += [struct.pack(order + "HHI", tag, value.kind, len(value.content) // UNIT_BYTES[value.kind]), field]
    return b"".join([*entries, bytes(4), *behind])


class _Reader:
    """Read directories from the bytes of a TIFF structure."""

    def __init__(self, content: bytes, wanted: Collection[int] | None) -> None:
        self.content = content
        self.wanted = wanted
        self.order: Literal["<", ">"] = "<" if content[:2] == b"II" else ">"
        self.is_big = b"+" in content[2:4]
        self.is_whole = True
        # Still to read. A hostile file may have very many tags, and refer to the same bytes many times.
        self.left_bytes = min(2 * len(content), MAX_EXIF_BYTES)
        self.left_tags = MAX_TAGS

    def read_first_directory(self) -> Directory:
        """Return the first directory, with those inside it. Raise struct.error if it is beyond the end."""
        return self._read_directory(self._read_integer(8, 8) if self.is_big else self._read_integer(4, 4), None)

    def _read_directory(self, start: int, name: int | None) -> Directory:
        """Return the undamaged part of the directory at a position. Raise struct.error if it is beyond the end."""
        counter, room = (8, 8) if self.is_big else (2, 4)
        entry_bytes = 4 + 2 * room
        tags: Directory = {}
        for number in range(self._read_integer(start, counter)):
            position = start + counter + number * entry_bytes
            self.left_bytes -= entry_bytes
            self.left_tags -= 1
            if position + entry_bytes > len(self.content) or min(self.left_bytes, self.left_tags) < 0:
                self.is_whole = False
                break
            if name is None and self.wanted is not None and self._read_integer(position, 2) not in self.wanted:
                continue
            try:
                tag, value = self._read_entry(position, room, name)
            except struct.error:
                self.is_whole = False
                continue
            if value.content if isinstance(value, Value) else value:
                tags[tag] = value
        return tags

    def _read_entry(self, position: int, room: int, name: int | None) -> tuple[int, "Value | Directory"]:
        """Return a tag and its value. Raise struct.error if the value is damaged or not as it must be."""
        tag, kind, count = (
            self._read_integer(position, 2),
            self._read_integer(position + 2, 2),
            self._read_integer(position + 4, room),
        )
        size = count * UNIT_BYTES.get(kind, 0)
        start = position + 4 + room
        if size > room:
            start = self._read_integer(start, room)
            self.left_bytes -= size
        if start + size > len(self.content) or self.left_bytes < 0 or kind not in UNIT_BYTES:
            raise struct.error
        if tag in _INNER.get(name, ()):
            return tag, self._read_directory(self._read_integer(start, min(size, 8)), tag)
        if kind >= _LONG8 or not is_as_specified(name, tag, kind, count):
            raise struct.error
        return tag, Value(kind, self.content[start : start + size])

    def _read_integer(self, position: int, size: int) -> int:
        """Return an unsigned integer. Raise struct.error if it is beyond the end."""
        code = {2: "H", 4: "I"}.get(size, "Q")
        return int(struct.unpack(self.order + code, self.content[position : position + size])[0])
