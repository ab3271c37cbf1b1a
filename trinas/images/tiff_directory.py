"""The directories of a TIFF file, walked within bounds before a decoder sees the file.

A hostile file may refer to the same bytes again and again. So each directory is read once, their number is limited,
and values must lie inside the file.
"""

import io
import struct
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.ExifTags import Base
from tifffile import PHOTOMETRIC

from trinas.images.exif import UNIT_BYTES, Value
from trinas.images.exif_tags import BYTE, LONG, SHORT, UNDEFINED
from trinas.images.stored import DecodeError

MAX_DIRECTORIES = 256
"""Of a file, with those that its directories refer to. A file of one image has about ten: smaller versions of it."""

MAX_TAGS = 4096
"""Of a directory."""

_MAX_STORAGE_BYTES = 1 << 20  # palettes and the sizes of many samples have some hundred kilobytes
_IMAGE_DEPTH, _TILE_DEPTH, _DNG_VERSION = 32997, 32998, 50706
_IS_REDUCED, _OLD_REDUCED = 1, 2
_INTEGERS = {BYTE: "u1", SHORT: "u2", LONG: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Type of a value -> numpy's name for it. 13, 16 and 18 are for positions."""

_STORAGE_TAGS = (
    *(Base.ImageWidth, Base.ImageLength, Base.BitsPerSample, Base.Compression, Base.PhotometricInterpretation),
    *(Base.FillOrder, Base.SamplesPerPixel, Base.RowsPerStrip, Base.PlanarConfiguration, Base.Predictor),
    *(Base.T4Options, Base.T6Options, Base.ColorMap, Base.TileWidth, Base.TileLength, Base.ExtraSamples),
    *(Base.SampleFormat, Base.JPEGTables, Base.YCbCrSubSampling, _IMAGE_DEPTH, _TILE_DEPTH),
)
"""The tags that say how pixels are stored."""

_MANY_NUMBERS = (
    *(Base.BitsPerSample, Base.SampleFormat, Base.ExtraSamples, Base.ColorMap, Base.JPEGTables),
    *(Base.YCbCrSubSampling, Base.RowsPerStrip),  # of the last one, some programs write several
)
"""Those that may have more than one number."""

_POSITIONS = (Base.TileOffsets, Base.StripOffsets, Base.JpegIFOffset)
_BYTE_COUNTS = (Base.TileByteCounts, Base.StripByteCounts, Base.JpegIFByteCount)


class _Entry(NamedTuple):
    """An entry of a directory. Its value is not read yet."""

    kind: int
    length: int  # numbers that it has
    field: bytes
    """The value if it is short, otherwise its position in the file."""

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return self.length * UNIT_BYTES.get(self.kind, 0)


_Entries = dict[int, _Entry]


class TiffDirectory:
    """The directory of the image in a TIFF or BigTIFF file."""

    def __init__(self, file: IO[bytes]) -> None:
        """Find the directory. Smaller versions of the image do not count.

        Args:
            file: must stay open as long as values are read.
        Raises:
            DecodeError: the directories are damaged or too many, there is not exactly one image, or it is a raw file.
        """
        self._reader = _Reader(file)
        self.order = self._reader.order
        self.file_bytes = self._reader.size
        directories = self._reader.list_directories()
        if any(self._reader.is_raw(entries) for entries in directories):
            raise DecodeError("raw files are not supported; export it as TIFF first")
        images = [entries for entries in directories if not self._reader.is_reduced(entries)]
        if not images:
            raise DecodeError("damaged (there is no image in it)")
        if len(images) > 1:
            raise DecodeError(f"holds {len(images)} images; split it into files of one image each")
        self._entries = images[0]

    def read_storage(self) -> dict[int, Value]:
        """Return the values that say how pixels are stored, by their tags.

        Raises:
            DecodeError: one of them cannot be read.
        """
        found = [tag for tag in _STORAGE_TAGS if tag in self._entries and self._entries[tag].length]
        values = {int(tag): self.read_value(tag, _MAX_STORAGE_BYTES) for tag in found}
        for tag, value in values.items():
            entry = self._entries[tag]
            is_whole = value is not None and len(value.content) == entry.size
            has_type = entry.kind in (*_INTEGERS, UNDEFINED) and (entry.length == 1 or tag in _MANY_NUMBERS)
            if not is_whole or not has_type:
                raise DecodeError(f"damaged or cut short (its tag {tag} cannot be read)")
        return {tag: value for tag, value in values.items() if value}

    def read_value(self, tag: int, limit: int) -> Value | None:
        """Return up to `limit` bytes of a value; None if there is none, or if it is not inside the file."""
        entry = self._entries.get(tag)
        content = self._reader.read_content(entry, limit) if entry else b""
        return Value(entry.kind, content) if entry and content else None

    def read_segments(self) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return the positions of the strips or tiles in the file, and how many bytes they have if the file says it.

        Raises:
            DecodeError: one of the two cannot be read, or there are no positions.
        """
        positions, byte_counts = (self._read_numbers(tags) for tags in (_POSITIONS, _BYTE_COUNTS))
        if positions is None:
            raise DecodeError("damaged (it does not say where its pixels are)")
        return positions, byte_counts

    def read_first_bytes(self, size: int) -> bytes:
        """Return the beginning of the first strip or tile; less than `size` bytes if the file ends there."""
        position = int(self.read_segments()[0][0])
        return self._reader.read(position, max(0, min(size, self.file_bytes - position))) if position > 0 else b""

    def _read_numbers(self, tags: tuple[int, ...]) -> NDArray[np.int64] | None:
        """Return the integers of the first of some tags that is there."""
        entry = next((self._entries[tag] for tag in tags if tag in self._entries), None)
        if entry is None or not entry.length:
            return None
        numbers = self._reader.read_integers(entry)
        if numbers is None:
            raise DecodeError("damaged or cut short (it does not say where its pixels are)")
        return numbers


class _Reader:
    """Reads directories and values."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        start = self.read(0, 8)
        self.order: Literal["<", ">"] = "<" if start[:2] == b"II" else ">"
        self._is_big = b"+" in start[2:4]
        self._word = "Q" if self._is_big else "I"
        self._room = struct.calcsize(self._word)  # bytes of a position, and of a short value
        self._entry = struct.Struct(f"{self.order}HH{self._word}{self._room}s")
        self._left_directories = MAX_DIRECTORIES

    def list_directories(self) -> list[_Entries]:
        """Return the directories of the file, without those that they refer to."""
        directories: list[_Entries] = []
        position, seen = self._unpack(self._word, self._room if self._is_big else 4), set[int]()
        while position:
            if position in seen:
                raise DecodeError("damaged (its directories form a loop)")
            seen.add(position)
            entries, position = self._read_directory(position)
            directories.append(entries)
        return directories

    def is_raw(self, entries: _Entries) -> bool:
        """Return whether a directory shows that the file is a camera's raw file. Its image is only a preview."""
        behind = []
        if Base.SubIFDs in entries:
            positions = self.read_integers(entries[Base.SubIFDs])
            for position in () if positions is None else positions:
                self._count_directory()
                try:  # the directories behind an undamaged image may be damaged
                    behind.append(self._read_entries(int(position))[0])
                except DecodeError:
                    continue
        return _DNG_VERSION in entries or any(
            self._get_integer(inner, Base.PhotometricInterpretation) == PHOTOMETRIC.CFA for inner in (entries, *behind)
        )

    def is_reduced(self, entries: _Entries) -> bool:
        """Return whether the image of a directory is a smaller version of another one."""
        kind = self._get_integer(entries, Base.NewSubfileType)
        if not kind:
            return self._get_integer(entries, Base.SubfileType) == _OLD_REDUCED
        return bool(kind & _IS_REDUCED)

    def read_content(self, entry: _Entry, limit: int) -> bytes:
        """Return up to `limit` bytes of a value; nothing if it is not wholly inside the file."""
        if entry.size <= self._room:
            return entry.field[: min(entry.size, limit)]
        (position,) = struct.unpack(self.order + self._word, entry.field)
        return self.read(position, min(entry.size, limit)) if position + entry.size <= self.size else b""

    def read_integers(self, entry: _Entry) -> NDArray[np.int64] | None:
        """Return a value as integers; None if it has others, or is not inside the file."""
        content = self.read_content(entry, self.size) if entry.kind in _INTEGERS else b""
        if not content:
            return None
        # Those of 64 bits that do not fit become negative, and are so outside the file.
        return np.frombuffer(content, self.order + _INTEGERS[entry.kind]).astype(np.int64)

    def _get_integer(self, entries: _Entries, tag: int) -> int | None:
        numbers = self.read_integers(entries[tag]) if tag in entries else None
        return None if numbers is None else int(numbers[0])

    def _read_directory(self, position: int) -> tuple[_Entries, int]:
        self._count_directory()
        return self._read_entries(position)

    def _count_directory(self) -> None:
        self._left_directories -= 1
        if self._left_directories < 0:
            raise DecodeError(f"holds more than {MAX_DIRECTORIES} images; split it into files of one image each")

    def _read_entries(self, position: int) -> tuple[_Entries, int]:
        """Return the entries of a directory, and the position of the next one; 0 if there is none."""
        counter = "Q" if self._is_big else "H"
        count, start = self._unpack(counter, position), position + struct.calcsize(counter)
        if count > MAX_TAGS:
            raise DecodeError(f"damaged (a directory of {count} tags)")
        entries: _Entries = {}
        for tag, *fields in self._entry.iter_unpack(self.read(start, count * self._entry.size)):
            entries.setdefault(tag, _Entry(*fields))
        return entries, self._unpack(self._word, start + count * self._entry.size)

    def _unpack(self, code: str, position: int) -> int:
        value: Any = struct.unpack(self.order + code, self.read(position, struct.calcsize(code)))[0]
        return int(value)

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of the file. Raise DecodeError if they are beyond its end."""
        if position + size > self.size:
            raise DecodeError("damaged or cut short (it refers to bytes beyond its end)")
        self._file.seek(position)
        return self._file.read(size)
