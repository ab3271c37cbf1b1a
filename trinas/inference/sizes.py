"""How large a result is to be, and which networks make it."""

from collections.abc import Collection
from itertools import combinations_with_replacement
from math import prod

from trinas.config import DEFAULT_SCALE, MAX_SCALE, SizeConfig
from trinas.errors import UpscaleError

_MOST_PASSES = 4  # 2 to the fourth is MAX_SCALE


def target_size(config: SizeConfig, width: int, height: int) -> tuple[int, int]:
    """Width and height of the result for a picture of `width` x `height` pixels; the aspect is kept.

    Raises:
        UpscaleError: it is more than 16 times the picture.
    """
    if config.long_side is not None:
        factor = config.long_side / max(width, height)
    elif config.width is not None or config.height is not None:
        wishes = ((config.width, width), (config.height, height))
        factor = min(wished / side for wished, side in wishes if wished is not None)
    else:
        factor = config.scale or DEFAULT_SCALE
    if factor > MAX_SCALE:
        raise UpscaleError(f"{width}x{height} would have to grow {factor:.1f} times; the most is {MAX_SCALE}")
    return _rounded(width * factor), _rounded(height * factor)


def choose_passes(
    width: int, height: int, size: tuple[int, int], scales: Collection[int], first: Collection[int] | None = None
) -> tuple[int, ...]:
    """Scales of the networks to apply, one after the other, to reach at least `size`; none for what is not larger.

    Of all that reach it the product is smallest, then the number of passes; the smallest scale comes first,
    since the last pass works on the largest picture, and costs least where it multiplies the most.

    Args:
        width, height: of the picture, in pixels.
        size: width and height wanted, at most 16 times as much.
        scales: of the networks there are.
        first: of those that may come first, if they are others; one of them does.
    """

    def reaches(passes: tuple[int, ...]) -> bool:
        return prod(passes) * width >= size[0] and prod(passes) * height >= size[1]

    followers = [
        chain for count in range(_MOST_PASSES) for chain in combinations_with_replacement(sorted(scales), count)
    ]
    chains = [(), *((scale, *others) for scale in sorted(first or scales) for others in followers)]
    return min(filter(reaches, chains), key=lambda passes: (prod(passes), len(passes)))


def _rounded(side: float) -> int:
    return max(1, int(side + 0.5))
