"""EXIF as directories of tags whose values stay the bytes that the file has, so that they are written unchanged.

Pillow's own reading and writing loses letters outside ASCII, and of which kind a value is.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, Union

from PIL.ExifTags import IFD

BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
"""Kinds of value, numbered as TIFF does."""

_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Kind of value -> bytes of each."""

_LONG8 = 16  # it and those beyond are BigTIFF's, which EXIF knows not
_INTRODUCTION = b"Exif\0\0"
_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF's
_INNER: dict[int | None, tuple[int, ...]] = {None: (IFD.Exif, IFD.GPSInfo), IFD.Exif: (IFD.Interop,)}
"""Directory, None for the first -> the tags in it that are directories again."""


@dataclass(frozen=True)
class Value:
    """What a tag says."""

    kind: int
    content: bytes
    """In the byte order of the EXIF that it is part of."""


Directory: TypeAlias = dict[int, Union[Value, "Directory"]]
"""Tag -> what it says."""


@dataclass
class Exif:
    """The first directory and those within it; the thumbnail's is none of them."""

    order: Literal["<", ">"]
    """Of bytes: < or >, as `struct` has it."""
    tags: Directory
    is_whole: bool = True
    """Whether nothing in it was damaged and left out."""

    def integer(self, tag: int) -> int | None:
        """What a tag says; None where it is no positive integer."""
        value = self.tags.get(tag)
        if not isinstance(value, Value) or value.kind not in (SHORT, LONG):
            return None
        return int(struct.unpack_from(self.order + ("H" if value.kind == SHORT else "I"), value.content)[0])

    def ratio(self, tag: int) -> float | None:
        """What a tag says; None where it is no fraction."""
        value = self.tags.get(tag)
        if not isinstance(value, Value) or value.kind != RATIONAL:
            return None
        numerator, denominator = struct.unpack_from(self.order + "II", value.content)
        return numerator / denominator if denominator else None

    def integers(self, kind: int, *values: int) -> Value:
        """A value for a tag, SHORT or LONG."""
        return Value(kind, struct.pack(f"{self.order}{len(values)}{'H' if kind == SHORT else 'I'}", *values))

    def rational(self, number: float) -> Value:
        """A value for a tag: a positive number below 400,000."""
        fraction = Fraction(number).limit_denominator(10_000)
        return Value(RATIONAL, struct.pack(self.order + "II", fraction.numerator, fraction.denominator))

    def tiff_header(self) -> bytes:
        """The eight bytes of a TIFF file whose first directory follows at once."""
        return {"<": b"II", ">": b"MM"}[self.order] + struct.pack(self.order + "HI", 42, 8)

    def tobytes(self) -> bytes:
        """As files hold it."""
        return _INTRODUCTION + self.tiff_header() + serialised(self.tags, self.order, 8)


def parsed_exif(content: bytes | None) -> Exif | None:
    """The EXIF of a picture, or what the first directory of a TIFF or BigTIFF file says.

    Args:
        content: a TIFF structure, with or without "Exif" and two zeros before it.
    Returns:
        None where there is nothing, or nothing sound.
    """
    while content and content.startswith(_INTRODUCTION):
        content = content[len(_INTRODUCTION) :]
    if not content or content[:4] not in _BEGINNINGS:
        return None
    reader = _Reader(content)
    try:
        tags = reader.first_directory()
    except struct.error:
        return None
    return Exif(reader.order, tags, reader.is_whole) if tags else None


def serialised(tags: Directory, order: str, start: int) -> bytes:
    """A directory, with all that it refers to, for position `start` of a TIFF structure."""
    entries, behind = struct.pack(order + "H", len(tags)), b""
    end = start + len(entries) + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        position = end + len(behind)
        if isinstance(value, dict):
            behind += serialised(value, order, position)
            value = Value(LONG, struct.pack(order + "I", position))
        field = value.content.ljust(4, b"\0")
        if len(field) > 4:
            behind += value.content + b"\0" * (len(value.content) % 2)
            field = struct.pack(order + "I", position)
        entries += struct.pack(order + "HHI", tag, value.kind, len(value.content) // _UNIT_BYTES[value.kind]) + field
    return entries + bytes(4) + behind


class _Reader:
    """Directories out of the bytes of a TIFF structure."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order: Literal["<", ">"] = "<" if content[:2] == b"II" else ">"
        self.is_big = b"+" in content[2:4]
        self.is_whole = True
        self.left_bytes = 2 * len(content)  # to read: a hostile file may refer to all of itself time and again

    def first_directory(self) -> Directory:
        return self._directory(self._integer(8, 8) if self.is_big else self._integer(4, 4), None)

    def _directory(self, start: int, name: int | None) -> Directory:
        """The directory at a position, without what is damaged in it. Raises struct.error for a position beyond."""
        counter, room = (8, 8) if self.is_big else (2, 4)
        entry_bytes = 4 + 2 * room
        tags: Directory = {}
        for number in range(self._integer(start, counter)):
            position = start + counter + number * entry_bytes
            self.left_bytes -= entry_bytes
            if position + entry_bytes > len(self.content) or self.left_bytes < 0:
                self.is_whole = False
                break
            try:
                tag, value = self._entry(position, room, name)
            except struct.error:
                self.is_whole = False
                continue
            if value.content if isinstance(value, Value) else value:
                tags[tag] = value
        return tags

    def _entry(self, position: int, room: int, name: int | None) -> tuple[int, "Value | Directory"]:
        """Raises struct.error where it is damaged, or of a kind that there is not."""
        tag, kind, count = self._integer(position, 2), self._integer(position + 2, 2), self._integer(position + 4, room)
        size = count * _UNIT_BYTES.get(kind, 0)
        where = position + 4 + room
        if size > room:
            where = self._integer(where, room)
            self.left_bytes -= size
        content = self.content[where : where + size]
        if len(content) < size or self.left_bytes < 0 or kind not in _UNIT_BYTES:
            raise struct.error
        if tag in _INNER.get(name, ()):
            return tag, self._directory(self._integer(where, min(size, 8)), tag)
        if kind >= _LONG8:
            raise struct.error
        return tag, Value(kind, content)

    def _integer(self, position: int, size: int) -> int:
        """Raises struct.error beyond the end."""
        code = {2: "H", 4: "I"}.get(size, "Q")
        return int(struct.unpack(self.order + code, self.content[position : position + size])[0])
