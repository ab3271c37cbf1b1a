"""Damage to ZIP archives, and archives with hostile names."""

import zipfile
from random import Random

from .bytes_damage import damage_bytes, overwrite, pick_extreme
from .seeds import pack

_FIELDS = {
    b"PK\3\4": ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\1\2": (
        (6, 2),
        (8, 2),
        (10, 2),
        (16, 4),
        (20, 4),
        (24, 4),
        (28, 2),
        (30, 2),
        (32, 2),
        (34, 2),
        (38, 4),
        (42, 4),
    ),
    b"PK\5\6": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
}
"""Beginning of a record -> position and bytes of its fields."""

_METHODS = (0, 1, 6, 8, 9, 12, 14, 93, 95, 97, 98, 99)
_HOSTILE_NAMES = (
    "../up.png", "/root.png", "C:\\drive.png", "..\\up.png", "a/../../up.png", "", ".", "/", "//", "a", "a/", "a/b.png",
    "a/b", "CON", "x" * 300 + ".png", "d/" * 200 + "x.png", "two\nlines.png", "zero\0.png", "\x1b[31m.png",
    "\u202egnp.exe", ".hidden.png", ".trinas-x.tmp", "space .png ", "A.PNG", "a.png", "Ä.png", "A\u0308.png",
    "<img src=x>.png", "-o.png",
)  # fmt: skip
_ZEROS = 30 << 20


def damage_archive(random: Random, content: bytes) -> bytes:
    """Damage the fields of an archive or its bytes, or return one of hostile names or of many zeros."""
    change = random.randrange(10)
    if change < 5:
        return _set_field(random, content)
    if change < 7:
        return damage_bytes(random, content)
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    if change < 9:
        names = random.choices(_HOSTILE_NAMES, k=random.randint(1, 6))
        return pack([(name, b"content") for name in names], method)
    if method == zipfile.ZIP_STORED:
        method = zipfile.ZIP_DEFLATED
    return pack([("zeros.png", bytes(random.choice((1, _ZEROS))))], method)


def _set_field(random: Random, content: bytes) -> bytes:
    mark = random.choice(list(_FIELDS))
    starts = [start for start in range(len(content)) if content.startswith(mark, start)]
    if not starts:
        return damage_bytes(random, content)
    position, size = random.choice(_FIELDS[mark])
    is_method = (mark, position) in ((b"PK\3\4", 8), (b"PK\1\2", 10))
    number = random.choice(_METHODS) if is_method else pick_extreme(random, size)
    return overwrite(content, random.choice(starts) + position, number.to_bytes(size, "little"))
