"""Compute the size of a result, and choose the scales that lead to it."""

from collections.abc import Collection
from itertools import combinations_with_replacement
from math import prod

from trinas.config import DEFAULT_SCALE, MAX_SCALE, SizeConfig
from trinas.errors import UpscaleError

_MOST_PASSES = 4  # 2 to the fourth is MAX_SCALE


def compute_target_size(config: SizeConfig, width: int, height: int) -> tuple[int, int]:
    """Return width and height of the result for an image of `width` x `height` pixels. The aspect ratio is kept.

    Raises:
        UpscaleError: the result is more than 16 times as large along a side.
    """
    if config.long_side is not None:
        factor = config.long_side / max(width, height)
    elif config.width is not None or config.height is not None:
        sides = ((config.width, width), (config.height, height))
        factor = min(wanted / side for wanted, side in sides if wanted is not None)
    else:
        factor = config.scale or DEFAULT_SCALE
    if factor > MAX_SCALE:
        raise UpscaleError(f"{width}x{height} would have to grow {factor:.1f} times; the most is {MAX_SCALE}")
    return _round(width * factor), _round(height * factor)


def choose_scales(
    width: int, height: int, size: tuple[int, int], scales: Collection[int], first: Collection[int] | None = None
) -> tuple[int, ...]:
    """Return the scales of the networks to apply, one after the other, to reach at least `size`.

    Among all sequences that reach the size, the smallest product is taken, then the fewest networks. The smallest scale
    comes first. The last pass works on the largest image, and with a large scale it costs less per output pixel.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        size: width and height of the result, at most 16 times those of the image.
        scales: the scales of the networks.
        first: the scales of the networks that can come first; None: the same as `scales`.
    Returns:
        Scales in the order of the passes; empty if the result is not larger than the image.
    """

    def reaches(passes: tuple[int, ...]) -> bool:
        return prod(passes) * width >= size[0] and prod(passes) * height >= size[1]

    followers = [
        chain for count in range(_MOST_PASSES) for chain in combinations_with_replacement(sorted(scales), count)
    ]
    chains = [(), *((scale, *others) for scale in sorted(first or scales) for others in followers)]
    return min(filter(reaches, chains), key=lambda passes: (prod(passes), len(passes)))


def _round(side: float) -> int:
    return max(1, int(side + 0.5))
