"""Cut an image into tiles that overlap."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil


@dataclass(frozen=True)
class Tile:
    """A rectangle of the input, and the padded rectangle that its result depends on. In pixels; ends are excluded."""

    top: int
    bottom: int
    left: int
    right: int
    padded_top: int
    padded_bottom: int
    padded_left: int
    padded_right: int


def tile_grid(height: int, width: int, tile_px: int, padding: int) -> Iterator[Tile]:
    """Yield tiles that cover an image once, row by row.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        tile_px: longest side of a tile. All tiles have nearly the same size.
        padding: pixels around a tile. There are fewer at the image's border.
    """
    for top, bottom in _cut_side(height, tile_px):
        for left, right in _cut_side(width, tile_px):
            yield Tile(
                top, bottom, left, right,
                max(0, top - padding), min(height, bottom + padding),
                max(0, left - padding), min(width, right + padding),
            )  # fmt: skip


def count_tiles(height: int, width: int, tile_px: int) -> int:
    """Return how many tiles `tile_grid` yields."""
    return ceil(height / tile_px) * ceil(width / tile_px)


def _cut_side(length: int, longest: int) -> list[tuple[int, int]]:
    count = ceil(length / longest)
    ends = [round(length * number / count) for number in range(count + 1)]
    return list(pairwise(ends))
