"""One damaged file by its number: always the same bytes for the same seed, number and libraries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from .archive_damage import damage_archive
from .bytes_damage import cut, damage_bytes, splice
from .model_damage import damage_model
from .parts_damage import LAYOUTS, damage_avif, damage_bmp, damage_parts
from .seeds import IMAGE_KINDS, KINDS, Seed, list_seeds
from .tiff_damage import damage_tiff

SHARES = {"tiff": 30, "png": 18, "jpg": 14, "webp": 8, "avif": 8, "bmp": 5, "zip": 7, "model": 10}
"""Kind -> percent of all files. TIFF has the most ways to store an image, and the reader with the most code."""


@dataclass(frozen=True)
class DamagedFile:
    """A damaged file, or the files of a damaged model folder."""

    number: int
    kind: str
    """As `Seed.kind`."""
    seed: Seed
    """What it was before."""
    files: Mapping[str, bytes]
    """Name -> content."""
    is_cut: bool
    """Whether nothing was done but to leave out the end."""


def make_file(run_seed: int, number: int, kinds: Sequence[str] = KINDS) -> DamagedFile:
    """Return a damaged file.

    Args:
        run_seed: of the run.
        number: of the file in the run, from 0.
        kinds: the kinds of files in the run.
    """
    random = Random(f"{run_seed}/{number}")
    (kind,) = random.choices(kinds, [SHARES[kind] for kind in kinds])
    seeds = list_seeds(kind)
    seed, other = random.choice(seeds), random.choice(seeds)
    if kind == "model":
        return DamagedFile(number, kind, seed, damage_model(random, seed.files), False)
    (name,) = seed.files
    is_cut = kind in IMAGE_KINDS and random.random() < 0.1
    content = cut(random, seed.content) if is_cut else _damage_more(random, kind, seed.content, other.content)
    return DamagedFile(number, kind, seed, {name: content}, is_cut)


def _damage_more(random: Random, kind: str, content: bytes, other: bytes) -> bytes:
    """Damage a file once or a few times."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = _damage_once(random, kind, content, other)
    return content


def _damage_once(random: Random, kind: str, content: bytes, other: bytes) -> bytes:
    choice = random.random()
    if choice < 0.05:
        return splice(random, content, other)
    if choice < 0.3:
        return damage_bytes(random, content)
    if kind in LAYOUTS:
        return damage_parts(LAYOUTS[kind], random, content, other)
    known = {"tiff": damage_tiff, "avif": damage_avif, "bmp": damage_bmp, "zip": damage_archive}
    return known[kind](random, content)
