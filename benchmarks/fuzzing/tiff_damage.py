"""Damage to the directories of a TIFF file, or of EXIF, which is built in the same way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from .bytes_damage import damage_bytes, overwrite, pick_extreme

UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Type of a value -> bytes of one number."""

DIRECTORY_TAGS = (330, 34665, 34853, 40965)
"""Tags whose values are positions of directories."""

TAGS = (
    254, 255, 256, 257, 258, 259, 262, 266, 269, 270, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 290, 291, 292,
    293, 296, 297, 301, 305, 306, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 333, 334, 336, 338, 339, 340,
    341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 32997, 32998, 33421, 33422, 33550,
    33723, 34377, 34665, 34675, 34853, 37500, 37510, 40965, 42112, 50706, 50838, 50839, 65426,
)  # fmt: skip
"""Tags that readers look at."""

COMPRESSIONS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99, 22610, 32766, 32771, 32773, 32809, 32908, 32946, 33003, 33005, 33007, 34661,
    34676, 34712, 34713, 34887, 34892, 34925, 34926, 34927, 34933, 34934, 48124, 50000, 50001, 50002, 50013, 52546,
    65000, 65002,
)  # fmt: skip
_SHORT_VALUES = {259: COMPRESSIONS, 262: (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 32803, 34892), 317: (0, 1, 2, 3, 34892, 34894)}
"""Tag -> values that mean something."""

_MAX_DIRECTORIES = 8  # more are not looked for
_MANY = 2000


@dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    position: int
    tag: int
    kind: int
    """Type of its values."""
    count: int
    field: bytes
    """The values, or their position."""


@dataclass(frozen=True)
class Directory:
    """A directory, at a position of the file."""

    position: int
    entries: tuple[Entry, ...]
    next_position: int
    """Where the position of the next directory stands."""


class Structure:
    """Where the directories of a TIFF structure are.

    Args:
        content: of a TIFF file, or of EXIF without its introduction.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
        self.is_big = content[2:4] in (b"+\0", b"\0+")
        self.room, self.counter = (8, 8) if self.is_big else (4, 2)
        self.entry_bytes = 4 + 2 * self.room
        self.first_position = 8 if self.is_big else 4
        self.directories: list[Directory] = []
        if content[:2] in (b"II", b"MM"):
            self._find(self.read(self.first_position, self.room))

    def read(self, position: int, size: int) -> int:
        """Return an unsigned integer."""
        return int.from_bytes(self.content[position : position + size], self.order)

    def write(self, number: int, size: int) -> bytes:
        """Return an unsigned integer as bytes. It is cut to its size."""
        return (number % 256**size).to_bytes(size, self.order)

    def find_values(self, entry: Entry) -> tuple[int, int]:
        """Return the position of an entry's values and the bytes that they have."""
        size = entry.count * UNIT_BYTES.get(entry.kind, 1)
        start = entry.position + 4 + self.room
        return (start if size <= self.room else self.read(start, self.room)), size

    def _find(self, position: int) -> None:
        known = {directory.position for directory in self.directories}
        if not 0 < position < len(self.content) or position in known or len(known) >= _MAX_DIRECTORIES:
            return
        entries = tuple(self._read_entries(position))
        end = position + self.counter + len(entries) * self.entry_bytes
        self.directories.append(Directory(position, entries, end))
        for entry in entries:
            if entry.tag in DIRECTORY_TAGS and UNIT_BYTES.get(entry.kind, 1) >= 4:
                start, size = self.find_values(entry)
                for place in range(start, min(start + size, len(self.content)), UNIT_BYTES[entry.kind]):
                    self._find(self.read(place, UNIT_BYTES[entry.kind]))
        self._find(self.read(end, self.room))

    def _read_entries(self, position: int) -> Iterator[Entry]:
        start = position + self.counter
        count = min(self.read(position, self.counter), (len(self.content) - start) // self.entry_bytes, 100)
        for place in range(start, start + count * self.entry_bytes, self.entry_bytes):
            tag, kind = self.read(place, 2), self.read(place + 2, 2)
            field = self.content[place + 4 + self.room : place + self.entry_bytes]
            yield Entry(place, tag, kind, self.read(place + 4, self.room), field)


Change = Callable[[Random, Structure, Directory, Entry], bytes]
"""Return a damaged copy of the structure's content. The entry is one of the directory."""


def set_tag(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Make one tag another."""
    return overwrite(found.content, entry.position, found.write(random.choice(TAGS), 2))


def set_kind(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Give a value another type."""
    return overwrite(found.content, entry.position + 2, found.write(random.randrange(20), 2))


def set_count(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Change the number of values."""
    count = random.choice((entry.count + 1, entry.count - 1, 0, pick_extreme(random, found.room)))
    return overwrite(found.content, entry.position + 4, found.write(count, found.room))


def set_field(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Change a value, or the position of values."""
    if entry.tag in _SHORT_VALUES and random.random() < 0.8:
        new = found.write(random.choice(_SHORT_VALUES[entry.tag]), 2)
    else:
        new = found.write(pick_position(random, found), found.room)
    return overwrite(found.content, entry.position + 4 + found.room, new)


def set_values(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Change one of an entry's values to an extreme one."""
    start, size = found.find_values(entry)
    unit = UNIT_BYTES.get(entry.kind, 1)
    place = start + unit * random.randrange(max(1, min(size, len(found.content)) // unit))
    size = min(unit, 4) if entry.kind in (5, 10) else unit
    return overwrite(found.content, min(place, len(found.content)), found.write(pick_extreme(random, size), size))


def damage_values(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Damage the bytes of an entry's values, which may be XMP or a colour profile."""
    start, size = found.find_values(entry)
    values = found.content[start : start + size]
    return overwrite(found.content, min(start, len(found.content)), damage_bytes(random, values)[: len(values)])


def set_next(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Let the next directory be another one: itself, for example."""
    return overwrite(found.content, directory.next_position, found.write(pick_position(random, found), found.room))


def set_length(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Change the number of entries."""
    count = random.choice((0, len(directory.entries) - 1, len(directory.entries) + 1, pick_extreme(random, 2)))
    return overwrite(found.content, directory.position, found.write(count, found.counter))


def pick_position(random: Random, found: Structure) -> int:
    """Return a position in the file, an extreme one, or one where a directory begins."""
    if random.random() < 0.5:
        return random.choice([directory.position for directory in found.directories])
    return random.choice((len(found.content), random.randrange(len(found.content)), pick_extreme(random, found.room)))


def rebuild(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Write the first directory anew behind the file: with entries gone, doubled, added or mixed up."""
    first = found.directories[0]
    entries = list(first.entries)
    for _ in range(random.randint(1, 3)):
        change = random.randrange(4)
        if change == 0 and entries:
            entries.pop(random.randrange(len(entries)))
        elif change == 1 and entries:
            entries.append(replace(random.choice(entries), tag=random.choice(TAGS)))
        elif change == 2:
            field = found.write(pick_position(random, found), found.room)
            entries.append(Entry(0, random.choice(TAGS), random.choice(list(UNIT_BYTES)), random.randrange(9), field))
        else:
            random.shuffle(entries)
    if random.random() < 0.8:
        entries.sort(key=lambda kept: kept.tag)
    return _append_directory(found, entries, found.read(first.next_position, found.room))


def multiply_directories(random: Random, found: Structure, directory: Directory, entry: Entry) -> bytes:
    """Give the image many directories inside it, which may all be the same."""
    count = random.choice((2, 50, _MANY))
    positions = [pick_position(random, found)] * count
    if random.random() < 0.5:
        positions = [pick_position(random, found) for _ in range(count)]
    values = b"".join(found.write(position, found.room) for position in positions)
    tag = random.choice(DIRECTORY_TAGS)
    field = found.write(len(found.content), found.room)
    entries = [kept for kept in found.directories[0].entries if kept.tag != tag]
    entries.append(Entry(0, tag, 18 if found.is_big else 13, count, field))
    longer = Structure(found.content + values)
    return _append_directory(longer, sorted(entries, key=lambda kept: kept.tag), 0)


def _append_directory(found: Structure, entries: list[Entry], following: int) -> bytes:
    """Return the content with one more directory, as the first one."""
    parts = [found.write(len(entries), found.counter)]
    for entry in entries:
        parts += [
            found.write(entry.tag, 2),
            found.write(entry.kind, 2),
            found.write(entry.count, found.room),
            entry.field,
        ]
    parts.append(found.write(following, found.room))
    changed = overwrite(found.content, found.first_position, found.write(len(found.content), found.room))
    return changed + b"".join(parts)


CHANGES: tuple[Change, ...] = (
    set_tag,
    set_kind,
    set_count,
    set_field,
    set_field,
    set_values,
    set_values,
    damage_values,
    set_next,
    set_length,
    rebuild,
    rebuild,
    multiply_directories,
)
"""Functions that appear twice are chosen twice as often."""


def damage_tiff(random: Random, content: bytes) -> bytes:
    """Damage a directory of a TIFF file or of EXIF, or any bytes if there is no directory."""
    introduction = b"Exif\0\0" if content.startswith(b"Exif\0\0") else b""
    found = Structure(content[len(introduction) :])
    directories = [directory for directory in found.directories if directory.entries]
    if not directories:
        return damage_bytes(random, content)
    directory = random.choice(directories)
    return introduction + random.choice(CHANGES)(random, found, directory, random.choice(directory.entries))
